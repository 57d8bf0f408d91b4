//! Plans and reports, without a server.

use serde_json::{Value, json};

use super::*;

fn definitions(vhosts: &[&str]) -> Value {
    json!({
        "users": [{"name": "admin", "password_hash": "a"}, {"name": "shop", "password_hash": "s"}],
        "vhosts": vhosts.iter().map(|name| json!({"name": name})).collect::<Vec<_>>(),
        "queues": vhosts.iter().map(|vhost| json!({"name": "q", "vhost": vhost, "arguments": {}})).collect::<Vec<_>>(),
        "policies": [{"name": "p", "vhost": vhosts[0], "definition": {"max-length": 1}}],
    })
}

fn admin() -> Target {
    Target::of_version("mq:1", "admin", "3.10.8")
}

fn parse(document: &Value) -> Definitions {
    Definitions::parse(document.to_string().as_bytes()).unwrap()
}

fn empty() -> Definitions {
    parse(&json!({"vhosts": [{"name": "/"}]}))
}

fn beside(name: &str) -> RestoreTarget {
    RestoreTarget::Beside(Some(name.into()))
}

#[test]
fn in_place_the_acting_user_stays_and_the_plan_says_so() {
    let point = parse(&definitions(&["/"]));
    let mut live = definitions(&["/"]);
    live["users"][0]["password_hash"] = "newer".into();
    live["users"][1]["password_hash"] = "newer".into();
    let live = parse(&live);
    let import = Import::prepare(&point, &live, &RestoreTarget::InPlace, &admin()).unwrap();
    assert!(!String::from_utf8(import.definitions().to_bytes()).unwrap().contains("admin"));
    let plan = import.plan(&live);
    assert!(plan.warnings[0].starts_with("user admin performs the restore"), "{plan:?}");
    let overwritten: Vec<_> =
        plan.actions.iter().filter(|action| action.change == Change::Overwrite).collect();
    assert_eq!(overwritten.len(), 1);
    assert_eq!(overwritten[0].what, "user shop");
}

#[test]
fn a_queue_with_other_arguments_is_a_conflict_before_and_a_difference_after() {
    let point = parse(&definitions(&["/"]));
    let mut live = definitions(&["/"]);
    live["queues"][0]["arguments"] = json!({"x-max-priority": 3});
    let live = parse(&live);
    let import = Import::prepare(&point, &live, &RestoreTarget::InPlace, &admin()).unwrap();
    let plan = import.plan(&live);
    assert!(!plan.overwrites(), "{plan:?}");
    let conflict = plan.actions.iter().find(|action| action.change == Change::Conflict).unwrap();
    assert_eq!(conflict.what, "queue q in /");
    assert!(
        conflict
            .why
            .as_ref()
            .unwrap()
            .starts_with("exists with other arguments; RabbitMQ ignores it"),
        "{plan:?}"
    );
    let report = import.report(&live);
    assert!(!report.is_equal());
    assert_eq!(report.differences[0].what, "queue q in /: arguments");
    assert_eq!(report.differences[0].found, r#"{"x-max-priority":3}"#);
}

#[test]
fn what_the_server_lost_is_created_and_what_only_it_has_is_left() {
    let point = parse(&definitions(&["/", "shop"]));
    let live =
        parse(&json!({"vhosts": [{"name": "/"}], "queues": [{"name": "own", "vhost": "/"}]}));
    let plan =
        Import::prepare(&point, &live, &RestoreTarget::InPlace, &admin()).unwrap().plan(&live);
    let lines: Vec<_> =
        plan.actions.iter().map(|action| format!("{:?} {}", action.change, action.what)).collect();
    for line in [
        "Create virtual host shop",
        "Create queue in shop",
        "Leave virtual host /, equal already",
        "Leave queue in /, not in the point",
    ] {
        assert!(lines.iter().any(|found| found == line), "{line}: {lines:?}");
    }
    assert!(!plan.overwrites());
}

#[test]
fn one_new_virtual_host_takes_the_name_and_several_share_it() {
    let prepare = |vhosts: &[&str]| {
        let point = parse(&definitions(vhosts));
        let import = Import::prepare(&point, &empty(), &beside("copy"), &admin()).unwrap();
        import.definitions().vhosts().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(prepare(&["shop"]), ["copy"]);
    assert_eq!(prepare(&["/", "shop"]), ["copy", "copy.shop"]);
    assert_eq!(prepare(&["a", "b"]), ["copy.a", "copy.b"]);
}

#[test]
fn a_restore_to_a_new_virtual_host_leaves_out_what_would_move_messages_and_users() {
    let mut point = definitions(&["/"]);
    point["parameters"] = json!([
        {"vhost": "/", "component": "shovel", "name": "s", "value": {}},
        {"vhost": "/", "component": "federation-upstream", "name": "f", "value": {}},
        {"vhost": "/", "component": "operator_policy", "name": "o", "value": {}},
    ]);
    let import = Import::prepare(&parse(&point), &empty(), &beside("copy"), &admin()).unwrap();
    assert_eq!(import.definitions().counts()["parameters"], 1);
    assert_eq!(import.definitions().counts()["users"], 0);
    assert!(
        import
            .plan(&empty())
            .warnings
            .iter()
            .any(|warning| warning.starts_with("2 parameters of shovels"))
    );
}

#[test]
fn a_restore_to_a_new_virtual_host_never_uses_an_existing_one() {
    let live = parse(&json!({"vhosts": [{"name": "copy"}]}));
    let error = Import::prepare(&parse(&definitions(&["/"])), &live, &beside("copy"), &admin())
        .unwrap_err();
    assert!(
        matches!(&error, SourceError::Refused(why) if why.contains("virtual host copy")),
        "{error:?}"
    );
}

#[test]
fn a_name_of_our_own_is_in_the_plan() {
    let import = Import::prepare(
        &parse(&definitions(&["/"])),
        &empty(),
        &RestoreTarget::Beside(None),
        &admin(),
    )
    .unwrap();
    let RestoreTarget::Beside(Some(name)) = import.plan(&empty()).request.to else {
        panic!("no name in {import:?}")
    };
    assert!(name.starts_with("kaleem_restored_2"), "{name}");
}
