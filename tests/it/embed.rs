//! An embedder's own source: the example in `examples/` defines one in under 60 lines, and it runs.

use crate::support::{
    program::{example, run},
    restic::Restic,
};

#[test]
fn the_embedders_example_backs_up_and_restores_its_own_source() {
    let directory = tempfile::tempdir().expect("a directory");
    let outcome = run(example("own_source").arg(directory.path()));
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert!(outcome.stdout.contains("restored: /settings/colour, colour is green"), "{}", outcome.stdout);
    Restic::on_directory(&directory.path().join("repository"), "example").check_read_data();

    let text = include_str!("../../examples/own_source.rs");
    let begins = text.lines().position(|line| line.starts_with("struct Settings")).expect("the source is in the example");
    let ends = text.lines().position(|line| line.starts_with("#[tokio::main]")).expect("and what uses it");
    assert!(ends - begins < 60, "a source of one's own takes {} lines", ends - begins);
}
