//! The JSON that commands print is a contract: it matches the schemas in `docs/schemas`, and
//! `docs/json.md` lists them all.

use std::{fs, path::PathBuf};

use jsonschema::Validator;
use serde_json::{Value, json};

use crate::support::{seed, site::Site};

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/schemas")
}

/// The committed schema of a document.
fn schema(name: &str) -> Value {
    let path = directory().join(format!("{name}.json"));
    let text =
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).expect("a schema is JSON")
}

/// The same schema without fields that it does not describe: a new field needs a description.
fn strict(mut schema: Value) -> Value {
    let mut extended = Vec::new();
    collect_extended(&schema, &mut extended);
    close(&mut schema);
    if let Some(definitions) = schema.get_mut("$defs").and_then(Value::as_object_mut) {
        for name in extended {
            if let Some(open) = definitions.get_mut(&name).and_then(Value::as_object_mut) {
                open.remove("unevaluatedProperties");
            }
        }
    }
    schema
}

/// Collects the definitions to which another schema adds properties, such as `message_type`.
fn collect_extended(value: &Value, found: &mut Vec<String>) {
    if let (Some(name), true) = (value["$ref"].as_str(), value["properties"].is_object()) {
        found.extend(name.strip_prefix("#/$defs/").map(str::to_owned));
    }
    match value {
        Value::Object(fields) => fields.values().for_each(|field| collect_extended(field, found)),
        Value::Array(values) => values.iter().for_each(|value| collect_extended(value, found)),
        _ => {}
    }
}

/// Forbids further properties wherever a schema describes some.
fn close(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(close);
            let is_closable = fields.get("properties").is_some_and(Value::is_object)
                && !fields.contains_key("additionalProperties");
            if is_closable {
                fields.insert("unevaluatedProperties".to_owned(), json!(false));
            }
        }
        Value::Array(values) => values.iter_mut().for_each(close),
        _ => {}
    }
}

/// Asserts that a value is the named document, without fields that its schema does not describe.
#[track_caller]
pub fn assert_is(name: &str, value: &Value) {
    let validator = Validator::new(&strict(schema(name))).expect("a schema");
    let faults: Vec<String> = validator
        .iter_errors(value)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(faults.is_empty(), "{name}: {}\n{value:#}", faults.join("\n"));
}

#[test]
fn the_committed_schemas_are_those_of_the_program_and_the_page_lists_each() {
    let site = Site::new();
    let listed = site.succeed(["config", "schema", "list"]).stdout;
    let page = fs::read_to_string(directory().with_file_name("json.md")).expect("a page");
    for name in listed.lines() {
        let printed = site.succeed(["config", "schema", name]).stdout;
        let path = directory().join(format!("{name}.json"));
        if std::env::var_os("KALEEM_TEST_WRITE_SCHEMAS").is_some() {
            fs::write(&path, &printed).expect("a schema can be written");
        }
        let committed = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(
            committed, printed,
            "docs/schemas/{name}.json is old; KALEEM_TEST_WRITE_SCHEMAS=1 writes it"
        );
        assert!(page.contains(&format!("(schemas/{name}.json)")), "docs/json.md lacks {name}");
    }
    let files = fs::read_dir(directory()).expect("a directory").count();
    assert_eq!(files, listed.lines().count(), "a schema of nothing is committed");
    let unknown = site.run(["config", "schema", "nothing"]);
    assert_eq!(unknown.code, Some(2), "{}", unknown.stderr);
    assert!(unknown.stderr.contains("config schema list"), "{}", unknown.stderr);
}

#[test]
fn what_commands_print_is_what_the_schemas_describe() {
    let site = Site::new();
    let tree = site.path("tree");
    seed::file_tree(&tree);
    let missing = site.path("missing");
    let site = site
        .with_files("configs", &[&tree])
        .with_files("gone", &[&missing])
        .with("[objectives]\nrpo_hours = 24\nrto_hours = 1")
        .initialised();
    let each = |name: &str, args: &[&str]| {
        let (outcome, lines) = site.json(args.iter().copied());
        assert!(!lines.is_empty(), "{args:?}: {}", outcome.stderr);
        lines.iter().for_each(|line| assert_is(name, line));
        lines
    };
    // One source fails, so that all kinds of lines are among them.
    let lines = each("backup", &["backup"]);
    let kinds: Vec<&Value> = lines.iter().map(|line| &line["message_type"]).collect();
    assert_eq!(kinds, ["summary", "error", "run"]);
    each("backup", &["backup", "configs", "--dry-run"]);
    each("verify", &["verify", "configs", "--level", "restored"]);
    each("drill", &["drill", "configs"]);
    each("report", &["report"]);
    each("status", &["status"]);
    each("status-all-hosts", &["status", "--all-hosts"]);
    each("points", &["points"]);
    each("points-moments", &["points", "--moments"]);
    each("snapshots", &["snapshots"]);
    each("history", &["history"]);
    each("metrics", &["metrics"]);
    let (_, listed) = site.json(["ls", "configs", "--recursive"]);
    let (snapshots, entries): (Vec<_>, Vec<_>) =
        listed.iter().partition(|line| line["struct_type"] == "snapshot");
    assert_eq!(snapshots.len(), 1, "{listed:?}");
    assert!(entries.len() > 5, "{listed:?}");
    entries.into_iter().for_each(|entry| assert_is("ls", entry));
}

#[test]
fn a_field_that_no_schema_describes_is_found() {
    let error = json!({ "status": 404, "error": "nothing" });
    assert_is("api-error", &error);
    let validator = Validator::new(&strict(schema("api-error"))).expect("a schema");
    assert!(!validator.is_valid(&json!({ "status": 404, "error": "nothing", "more": 1 })));
    assert!(!validator.is_valid(&json!({ "status": 404 })));
}
