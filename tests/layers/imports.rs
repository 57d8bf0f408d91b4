//! The paths within its own crate that a file uses.

use syn::{
    ItemMod, ItemUse, UseTree, Visibility,
    visit::{self, Visit},
};

/// The references of a file to other modules.
#[derive(Debug, Default)]
pub struct Imports {
    /// Paths in the file, starting with `crate`, `self` or `super`.
    pub paths: Vec<Vec<String>>,
    /// Re-exported names (`pub use self::part::Name`), with their origin.
    pub handed_on: Vec<(String, Vec<String>)>,
}

impl Imports {
    /// Parses a source file.
    pub fn of(text: &str) -> Result<Self, syn::Error> {
        let mut imports = Self::default();
        imports.visit_file(&syn::parse_file(text)?);
        Ok(imports)
    }

    fn add(&mut self, path: Vec<String>) {
        if matches!(path[0].as_str(), "crate" | "self" | "super") {
            self.paths.push(path);
        }
    }
}

impl<'ast> Visit<'ast> for Imports {
    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        if !is_for_tests(&module.attrs) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if is_for_tests(&item.attrs) {
            return;
        }
        let mut paths = Vec::new();
        expand(&item.tree, &mut Vec::new(), &mut paths);
        for (path, name) in paths {
            let is_own = path[0] == "self" && path.len() > 1;
            if is_own && !matches!(item.vis, Visibility::Inherited) {
                self.handed_on.push((name, path));
            } else {
                self.add(path);
            }
        }
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        if !is_for_tests(&function.attrs) {
            visit::visit_item_fn(self, function);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.segments.len() > 1 {
            self.add(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        }
        visit::visit_path(self, path);
    }
}

/// Every path of a use tree, with its local name.
fn expand(tree: &UseTree, above: &mut Vec<String>, paths: &mut Vec<(Vec<String>, String)>) {
    let with =
        |name: &syn::Ident| above.iter().cloned().chain([name.to_string()]).collect::<Vec<_>>();
    match tree {
        UseTree::Path(path) => {
            above.push(path.ident.to_string());
            expand(&path.tree, above, paths);
            above.pop();
        }
        UseTree::Name(name) if name.ident == "self" => {
            paths.push((above.clone(), above.last().cloned().unwrap_or_default()));
        }
        UseTree::Name(name) => paths.push((with(&name.ident), name.ident.to_string())),
        UseTree::Rename(rename) if rename.ident == "self" => {
            paths.push((above.clone(), rename.rename.to_string()));
        }
        UseTree::Rename(rename) => paths.push((with(&rename.ident), rename.rename.to_string())),
        UseTree::Glob(_) => paths.push((above.clone(), "*".to_owned())),
        UseTree::Group(group) => group.items.iter().for_each(|tree| expand(tree, above, paths)),
    }
}

/// `#[cfg(test)]`, `#[cfg(any(test, …))]`.
fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.meta.require_list().is_ok_and(|list| {
                list.tokens.clone().into_iter().any(|token| {
                    token
                        .to_string()
                        .split(|c: char| !c.is_alphanumeric())
                        .any(|word| word == "test")
                })
            })
    })
}
