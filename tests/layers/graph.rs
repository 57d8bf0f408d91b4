//! The import graph of a crate's files.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use crate::imports::Imports;

/// The files of a crate as modules (`engine::repository::save`), and the imports of each. A module
/// and its submodules are one idea: imports between them do not count. A re-exported name is
/// resolved to the module that defines it.
#[derive(Debug)]
pub struct Graph {
    edges: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    /// Reads all files below a source directory.
    pub fn of(sources: &Path) -> Self {
        let mut files = BTreeMap::new();
        read(sources, "", &mut files);
        let mut edges = BTreeMap::new();
        for (module, imports) in &files {
            let named = imports.paths.iter().filter_map(|path| resolved(&files, module, path, 0));
            let others: BTreeSet<String> = named
                .filter(|other| !is_above(module, other) && !is_above(other, module))
                .collect();
            edges.insert(module.clone(), others);
        }
        Self { edges }
    }

    /// Every import, as (importer, imported).
    pub fn edges(&self) -> impl Iterator<Item = (&str, &str)> {
        self.edges
            .iter()
            .flat_map(|(from, others)| others.iter().map(move |to| (from.as_str(), to.as_str())))
    }

    /// Groups of files that reach each other.
    pub fn circles(&self) -> Vec<Vec<&str>> {
        let reach: BTreeMap<&str, BTreeSet<&str>> =
            self.edges.keys().map(|from| (from.as_str(), self.reached(from))).collect();
        let mut circles: Vec<Vec<&str>> = Vec::new();
        for (from, reached) in &reach {
            if !reached.contains(from) || circles.iter().any(|circle| circle.contains(from)) {
                continue;
            }
            circles.push(
                reached
                    .iter()
                    .copied()
                    .filter(|to| reach.get(to).is_some_and(|back| back.contains(from)))
                    .collect(),
            );
        }
        circles
    }

    fn reached(&self, from: &str) -> BTreeSet<&str> {
        let mut reached = BTreeSet::new();
        let mut next: Vec<&str> = vec![from];
        while let Some(module) = next.pop() {
            for to in self.edges.get(module).into_iter().flatten() {
                if reached.insert(to.as_str()) {
                    next.push(to);
                }
            }
        }
        reached
    }
}

fn read(directory: &Path, above: &str, files: &mut BTreeMap<String, Imports>) {
    for entry in fs::read_dir(directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .flatten()
    {
        let path = entry.path();
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        let module = if above.is_empty() { name.to_owned() } else { format!("{above}::{name}") };
        if path.is_dir() {
            read(&path, &module, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") && name != "tests" {
            let text = fs::read_to_string(&path)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let imports =
                Imports::of(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let module = match name {
                "lib" | "main" if above.is_empty() => "crate".to_owned(),
                "mod" => above.to_owned(),
                _ => module,
            };
            files.insert(module, imports);
        }
    }
}

/// Reports whether `module` is `other` or one of its ancestors.
fn is_above(module: &str, other: &str) -> bool {
    module == "crate"
        || other == module
        || other.strip_prefix(module).is_some_and(|rest| rest.starts_with("::"))
}

/// Resolves a path to the file that it leads to.
fn resolved(
    files: &BTreeMap<String, Imports>,
    module: &str,
    path: &[String],
    depth: usize,
) -> Option<String> {
    let mut at: Vec<&str> =
        if module == "crate" { Vec::new() } else { module.split("::").collect() };
    let mut rest = path;
    while let Some((first, below)) = rest.split_first() {
        match first.as_str() {
            "crate" => at.clear(),
            "super" => {
                at.pop();
            }
            "self" => {}
            _ => break,
        }
        rest = below;
    }
    let root = String::from("crate");
    let joined = |at: &[&str]| if at.is_empty() { root.clone() } else { at.join("::") };
    while let Some((first, below)) = rest.split_first() {
        at.push(first);
        if !files.contains_key(&joined(&at)) {
            at.pop();
            let facade = joined(&at);
            let handed_on = &files.get(&facade)?.handed_on;
            if let (Some((_, from)), true) =
                (handed_on.iter().find(|(name, _)| name == first), depth < 8)
            {
                return resolved(files, &facade, from, depth + 1);
            }
            break;
        }
        rest = below;
    }
    files.contains_key(&joined(&at)).then(|| joined(&at))
}
