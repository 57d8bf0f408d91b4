//! The layering of the code, read from its `use` lines and paths: no wing of core uses a later one,
//! and no files import each other in a circle. Test code does not count.

mod graph;
mod imports;

use std::path::{Path, PathBuf};

use graph::Graph;

/// The wings of core: each may use itself and those before it.
const WINGS: [&str; 4] = ["ground", "engine", "recovery", "operate"];

/// The packages whose files may not import each other in a circle.
const PACKAGES: [&str; 3] = ["kaleem-dr-core", "kaleem-dr-sources", "kaleem-dr-cli"];

fn sources_of(package: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(package).join("src")
}

#[test]
fn no_wing_of_core_knows_one_after_it() {
    let graph = Graph::of(&sources_of("kaleem-dr-core"));
    let wing = |module: &str| WINGS.iter().position(|wing| module.split("::").next() == Some(wing));
    let upward: Vec<String> = graph
        .edges()
        .filter(|(from, to)| matches!((wing(from), wing(to)), (Some(from), Some(to)) if to > from))
        .map(|(from, to)| format!("{from} imports {to}"))
        .collect();
    assert!(upward.is_empty(), "imports against the order {WINGS:?}:\n{}", upward.join("\n"));
    assert!(graph.edges().count() > 500, "the imports are not read");
}

#[test]
fn no_files_of_a_library_import_each_other_in_a_circle() {
    for package in PACKAGES {
        let graph = Graph::of(&sources_of(package));
        let circles = graph.circles();
        let told: Vec<String> = circles.iter().map(|circle| circle.join(" <-> ")).collect();
        assert!(told.is_empty(), "{package}: {} circles:\n{}", told.len(), told.join("\n"));
    }
}

#[test]
fn an_import_upward_and_a_circle_are_seen() {
    let place = tempfile::tempdir().expect("a directory can be made");
    let write = |path: &str, text: &str| {
        let path = place.path().join(path);
        std::fs::create_dir_all(path.parent().expect("it has one"))
            .expect("a directory can be made");
        std::fs::write(path, text).expect("a file can be written");
    };
    write("lib.rs", "pub mod ground; pub mod engine;");
    write("ground/mod.rs", "mod a; mod b; pub use self::{a::A, b::B};");
    write("ground/a.rs", "use crate::{engine::C, ground::B};\npub struct A(B, C);");
    write(
        "ground/b.rs",
        "pub struct B; fn b() { let _ = super::A::new(); }\n#[cfg(test)] mod tests { use crate::engine::C; }",
    );
    write("engine.rs", "pub struct C;");
    let graph = Graph::of(place.path());
    let edges: Vec<_> = graph.edges().collect();
    assert_eq!(
        edges,
        [("ground::a", "engine"), ("ground::a", "ground::b"), ("ground::b", "ground::a")]
    );
    assert_eq!(graph.circles(), [["ground::a", "ground::b"]]);
}
