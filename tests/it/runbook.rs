//! The runbook: for this config, in two languages, with commands that work as written; and the same
//! text in every snapshot.

use std::process::Command;

use mongodb::{Client, bson::doc};

use crate::support::{program::run, seed, servers, site::Site};

async fn site(database: &str) -> Site {
    let client = Client::with_uri_str(servers::mongo_uri()).await.expect("a valid address");
    client.database(database).drop().await.expect("our own database can be dropped");
    client
        .database(database)
        .collection("users")
        .insert_one(doc! { "_id": 1 })
        .await
        .expect("a document can be inserted");
    let site = Site::new();
    let tree = site.path("tree");
    seed::file_tree(&tree);
    let uri = format!("{}{database}", servers::mongo_uri());
    let mirror = site.path("mirror");
    let site = site
        .with_mongo("mongo", &uri)
        .with_files("configs", &[&tree])
        .with_mirror("r2", &mirror)
        .initialised();
    site.succeed(["backup"]);
    site.succeed(["replicate"]);
    site
}

/// The indented lines of a text that begin with a program's name, without comments.
fn commands(text: &str, program: &str) -> Vec<String> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("    "));
    let ours = lines.filter(|line| line.starts_with(&format!("{program} ")));
    ours.map(|line| line.split(" #").next().unwrap_or_default().trim().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_runbook_works_as_written() {
    let site = site("kdr_runbook").await;
    let text = site.succeed(["runbook"]).stdout;
    let run_id = site.snapshots()[0]["run"].as_str().expect("a run").to_owned();
    let ours = commands(&text, "kaleem-dr");
    assert!(ours.len() >= 14, "{text}");
    for command in ours {
        let command = command.replace("RUN", &run_id);
        let mut arguments: Vec<&str> = command.split(' ').skip(1).collect();
        if command.contains("--in-place") {
            arguments.push("--yes");
        }
        // The machine is not lost: a scratch root, and next to the live data.
        let root = site.path(&format!("root-{}", arguments.len()));
        if arguments[0] == "bootstrap" {
            arguments.extend(["--root", root.to_str().expect("a UTF-8 path")]);
            let outcome = site.run(arguments.iter().copied());
            // The source's connection string is not in the snapshot.
            assert_eq!(outcome.code, Some(3), "{command}: {}{}", outcome.stdout, outcome.stderr);
            std::fs::remove_dir_all(&root).expect("it was made");
            continue;
        }
        if arguments[..] == ["recover"] {
            arguments.push("--beside");
        }
        // Copied back is a repository that is lost. One that exists has newer evidence than the mirror.
        if arguments[0] == "replicate" && arguments.contains(&"--from") {
            std::fs::remove_dir_all(site.repository()).expect("it is there");
        }
        // Two restores within one second would use the same default name.
        let elsewhere = site.path(&format!("beside-{}", arguments.join("-").replace('/', "_")));
        if arguments.contains(&"configs") && !command.contains("--in-place") {
            arguments.extend(["--to", elsewhere.to_str().expect("a UTF-8 path")]);
        } else if arguments.contains(&"mongo") && !command.contains("--in-place") {
            let name = format!("kdr_runbook_{}", elsewhere.to_string_lossy().len());
            let client = Client::with_uri_str(servers::mongo_uri()).await.expect("a valid address");
            client.database(&name).drop().await.expect("our own database can be dropped");
            let outcome = site.run(arguments.iter().copied().chain(["--to", name.as_str()]));
            assert_eq!(outcome.code, Some(0), "{command}: {}{}", outcome.stdout, outcome.stderr);
            client.database(&name).drop().await.expect("our own database can be dropped");
            continue;
        }
        let outcome = site.run(arguments.iter().copied());
        assert_eq!(outcome.code, Some(0), "{command}: {}{}", outcome.stdout, outcome.stderr);
    }
    // With restic alone.
    let id = site.snapshots()[0]["id"].as_str().expect("an id").to_owned();
    let target = site.path("by-restic");
    let stock = commands(&text, "restic");
    assert_eq!(stock.len(), 2, "{text}");
    for command in stock {
        let command = command
            .replace("SNAPSHOT", &id)
            .replace("/tmp/restored", target.to_str().expect("a UTF-8 path"));
        let mut restic = Command::new(servers::restic_program());
        restic
            .args(command.split(' ').skip(1))
            .env("RESTIC_PASSWORD_FILE", site.path("repository.pass"))
            .arg("--no-cache");
        let outcome = run(&mut restic);
        assert_eq!(outcome.code, Some(0), "{command}: {}", outcome.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_languages_name_what_really_exists_and_are_in_each_snapshot() {
    let site = site("kdr_runbook_text").await;
    let (english, arabic) =
        (site.succeed(["runbook"]).stdout, site.succeed(["runbook", "--lang", "ar"]).stdout);
    let repository = site.repository().display().to_string();
    for text in [&english, &arabic] {
        for expected in [
            repository.as_str(),
            "kdr_runbook_text",
            "mongorestore",
            "kaleem-dr replicate --from r2 --to local",
            "restore@admin",
        ] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
    }
    assert!(
        arabic.starts_with("# كيف يُستعاد كل شيء")
            && english.starts_with("# How to restore everything")
    );
    let target = site.path("restored");
    site.restic().restore_latest(&target, false);
    let lying =
        std::fs::read_to_string(target.join("RESTORE.md")).expect("each snapshot explains itself");
    assert!(lying.contains(english.trim_end()) && lying.contains(arabic.trim_end()), "{lying}");
    assert!(!lying.contains(&servers::mongo_uri()), "no connection string is in it");
}
