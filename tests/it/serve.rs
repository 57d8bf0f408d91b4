//! The page and its API, over HTTP as browsers and programs use them.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt as _, net::UnixListener},
    path::Path,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::{
    json::assert_is,
    support::{mirror::noise, page::Page, site::Site},
};

/// A name that would be a script, if a page did not escape it.
const HOSTILE: &str = "<script>alert(1)<!--&\"'.txt";

/// A site with a history: backups, a proof, a drill, a mirror, a failed job and an alarm.
pub fn with_history() -> Site {
    let site = Site::new();
    let tree = site.path("tree");
    fs::create_dir_all(tree.join("deep/er")).expect("a directory");
    for n in 0..40 {
        fs::write(tree.join(format!("file-{n:02}")), noise(2000, n + 1)).expect("a file");
    }
    fs::write(tree.join(HOSTILE), "hostile").expect("a file");
    fs::write(tree.join("\u{202e}txt.exe\n"), "hostile").expect("a file");
    fs::write(tree.join(OsStr::from_bytes(b"caf\xe9")), "latin 1").expect("a file");
    fs::write(tree.join("deep/er/ملف.txt"), "كليم").expect("a file");
    std::os::unix::fs::symlink("deep", tree.join("link")).expect("a link");
    let (mirror, other) = (site.path("mirror"), site.path("other"));
    let site = site
        .with_files("configs", &[&tree])
        .with_files("other", &[&other])
        .with_mirror("r2", &mirror)
        .with("[objectives]\nrpo_hours = 24\nrto_hours = 1\n[status]\nmax_age_hours = 30")
        .initialised();
    fs::create_dir(site.path("other")).expect("a directory");
    fs::write(site.path("other/one"), "one").expect("a file");
    site.succeed(["backup"]);
    site.succeed(["verify", "--level", "parsed"]);
    site.succeed(["drill"]);
    site.succeed(["replicate"]);
    site.succeed(["check"]);
    fs::remove_dir_all(site.path("other")).expect("a directory can be removed");
    for n in 5..40 {
        fs::remove_file(tree.join(format!("file-{n:02}"))).expect("a file can be removed");
    }
    // The source `other` fails, and `configs` raises an alarm.
    assert_eq!(site.run(["backup"]).code, Some(3));
    site
}

/// The id of the newest snapshot of a source.
fn newest(site: &Site, source: &str) -> String {
    let snapshots = site.snapshots();
    let mut of = snapshots.iter().filter(|snapshot| snapshot["source"] == source);
    let newest = of.next_back().expect("a snapshot");
    newest["id"].as_str().expect("an id").to_owned()
}

/// Paths of every view and every part of the API of that site.
fn paths(site: &Site) -> (Vec<String>, Vec<(String, &'static str)>) {
    let (_, history) = site.json(["history"]);
    let of = |kind: &str| {
        let jobs = history[0].as_array().expect("jobs");
        let job = jobs.iter().find(|job| job["kind"] == kind).expect("a job");
        job["run"].as_str().expect("a run").to_owned()
    };
    let (drill, backup, snapshot) = (of("drill"), of("backup"), newest(site, "configs"));
    let tree = site.path("tree");
    let tree = tree.display();
    let views = vec![
        "/".to_owned(),
        "/objectives".into(),
        "/objectives?repository=r2".into(),
        "/points".into(),
        format!("/snapshots/{snapshot}"),
        format!("/snapshots/{snapshot}?path={tree}"),
        "/drills".into(),
        format!("/drills/{drill}"),
        "/alarms".into(),
        "/history".into(),
        "/history?kind=backup&outcome=bad".into(),
        format!("/history/{backup}"),
    ];
    let api = vec![
        ("/api/v1/status".to_owned(), "api-status"),
        ("/api/v1/hosts".into(), "api-hosts"),
        ("/api/v1/points?limit=1".into(), "api-points"),
        ("/api/v1/moments".into(), "api-moments"),
        ("/api/v1/snapshots".into(), "api-snapshots"),
        (format!("/api/v1/snapshots/{snapshot}/files?path={tree}"), "api-files"),
        ("/api/v1/history?source=configs".into(), "api-history"),
        (format!("/api/v1/history/{backup}"), "api-run"),
        ("/api/v1/proofs".into(), "api-proofs"),
        ("/api/v1/drills".into(), "api-drills"),
        (format!("/api/v1/drills/{drill}"), "api-drill"),
        ("/api/v1/alarms".into(), "api-alarms"),
        ("/api/v1/metrics".into(), "api-metrics"),
    ];
    (views, api)
}

/// The elements of a page in order, with the classes that have a meaning, and without texts.
fn structure(page: &str) -> Vec<String> {
    let tags = page.split('<').skip(1).filter_map(|rest| rest.split_once('>'));
    // Parts whose number depends on the moment, and marks of the language.
    let is_of_all = |tag: &&str| !tag.starts_with('!') && !tag.starts_with("html");
    tags.map(|(tag, _)| tag)
        .filter(is_of_all)
        .map(|tag| {
            let name = tag.split([' ', '\n']).next().unwrap_or_default();
            let class = tag.split_once("class=\"").and_then(|(_, rest)| rest.split('"').next());
            format!("{name}.{}", class.unwrap_or_default())
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_view_and_every_part_of_the_api_shows_what_the_commands_print() {
    let site = with_history();
    let page = Page::of(&site);
    let (views, api) = paths(&site);
    for path in &views {
        let english = page.get(path).await.when_ok();
        assert!(english.text.contains("<html lang=\"en\" dir=\"ltr\""), "{path}: {}", english.text);
        assert_eq!(english.text.matches("<h1>").count(), 1, "{path}: {}", english.text);
        let joint = if path.contains('?') { '&' } else { '?' };
        let arabic = page.get(&format!("{path}{joint}lang=ar")).await.when_ok();
        assert!(arabic.text.contains("<html lang=\"ar\" dir=\"rtl\""), "{path}: {}", arabic.text);
        assert_eq!(structure(&english.text), structure(&arabic.text), "{path}");
        for answer in [english, arabic] {
            assert!(!answer.text.contains("<script>"), "{path}: {}", answer.text);
            assert!(!answer.text.contains(" style=\""), "{path}: {}", answer.text);
            assert!(!answer.text.contains('\u{202e}'), "{path}: a name changes the direction");
            for elsewhere in ["http://", "https://", "//", "data:"] {
                for place in ["href=\"", "src=\"", "url("] {
                    assert!(!answer.text.contains(&format!("{place}{elsewhere}")), "{path}");
                }
            }
        }
    }
    for (path, document) in &api {
        let answer = page.get(path).await.when_ok();
        assert_is(document, &answer.json());
    }
    assert_is("api-error", &page.get("/api/v1/history/01J00000000000000000000000").await.json());
    for missing in ["/nothing", "/history/01J00000000000000000000000", "/drills/x", "/snapshots/ab"]
    {
        let answer = page.get(missing).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{missing}");
        assert!(answer.text.contains("Not found"), "{missing}: {}", answer.text);
    }

    // The API answers with the documents of the commands.
    let same = |mut value: Value, mut printed: Value| {
        for list in [&mut value, &mut printed] {
            for line in list.as_array_mut().expect("a list") {
                // These grow with time.
                for name in ["age_seconds", "rpo_seconds"] {
                    line.as_object_mut().expect("an object").remove(name);
                }
            }
        }
        assert_eq!(value, printed);
    };
    let status = page.get("/api/v1/status").await.json();
    let (outcome, mut printed) = site.json(["status"]);
    assert_eq!(status["exit_code"], outcome.code.expect("a status"));
    same(status["data"].clone(), printed.remove(0));
    let points = page.get("/api/v1/points").await.json();
    assert_eq!(points["data"]["total"], 2);
    same(points["data"]["items"].clone(), site.json(["points"]).1.remove(0));
    let mut snapshots = site.snapshots();
    snapshots.reverse();
    let found = page.get("/api/v1/snapshots").await.json();
    assert_eq!(found["data"]["items"].as_array().map(Vec::len), Some(snapshots.len()));
    for snapshot in snapshots {
        let items = found["data"]["items"].as_array().expect("snapshots");
        assert!(items.contains(&snapshot), "{snapshot}");
    }
    let index = page.get("/api/v1").await.when_ok().json();
    for part in index["paths"].as_array().expect("a list") {
        if let Some(schema) = part["schema"].as_str() {
            let schema = page.get(schema).await.when_ok().json();
            assert!(schema["$schema"].is_string(), "{schema}");
        }
    }
    let metrics = page.get("/metrics").await.when_ok();
    assert!(metrics.header("content-type").starts_with("text/plain; version=0.0.4"));
    assert!(metrics.text.contains("kaleem_dr_"), "{}", metrics.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn views_say_what_an_operator_must_know() {
    let site = with_history();
    let page = Page::of(&site);
    let overview = page.get("/").await.when_ok().text;
    for expected in [
        "Needs attention",
        "<a href=\"/alarms\">alarm</a>: <bdi>configs</bdi>",
        "mirror of <bdi>local</bdi>",
        "Repository read",
    ] {
        assert!(overview.contains(expected), "{expected}: {overview}");
    }
    let alarms = page.get("/alarms").await.when_ok().text;
    assert!(alarms.contains("files are gone"), "{alarms}");
    assert!(alarms.contains("kaleem-dr alarm acknowledge configs"), "{alarms}");
    let bad = page.get("/history?outcome=bad").await.when_ok().text;
    assert!(bad.contains("partly done") && !bad.contains("<code dir=\"ltr\">replicate"), "{bad}");
    let of_source = page.get("/history?source=other&kind=backup").await.when_ok().text;
    assert!(of_source.contains("1–2"), "{of_source}");
    let nothing = page.get("/history?kind=prune").await.when_ok().text;
    assert!(nothing.contains("Nothing matches."), "{nothing}");
    let (_, history) = site.json(["history"]);
    let failed = history[0][0]["run"].as_str().expect("a run").to_owned();
    let run = page.get(&format!("/history/{failed}")).await.when_ok().text;
    assert!(run.contains("source other"), "the error of the source is missing: {run}");
    let points = page.get("/points?source=other").await.when_ok().text;
    assert!(points.contains("complete") && points.contains("1–1"), "{points}");

    // What is in a point, whatever its names are.
    let snapshot = newest(&site, "configs");
    let tree = site.path("tree");
    let files =
        page.get(&format!("/snapshots/{snapshot}?path={}", tree.display())).await.when_ok().text;
    assert!(files.contains("&lt;script&gt;alert(1)&lt;!--&amp;&quot;"), "{files}");
    assert!(files.contains("caf\\xe9") && files.contains("\\u{202e}txt.exe\\n"), "{files}");
    assert!(files.contains("link</bdi><span class=\"note\"> → <bdi>deep</bdi>"), "{files}");
    let deep = format!("/snapshots/{snapshot}?path={}/deep/er", tree.display());
    assert!(page.get(&deep).await.when_ok().text.contains("ملف.txt"));
    let odd = format!("/snapshots/{snapshot}?path={}/caf%E9", tree.display());
    assert!(page.get(&odd).await.when_ok().text.contains("caf\\xe9"));
    let gone = page.get(&format!("/snapshots/{snapshot}?path=/no/such")).await;
    assert_eq!(gone.status, StatusCode::NOT_FOUND);

    let drill = page.get("/drills").await.when_ok().text;
    let link = drill.split("href=\"/drills/").nth(1).and_then(|rest| rest.split('"').next());
    let link = link.expect("a drill");
    let report = page.get(&format!("/drills/{link}")).await.when_ok().text;
    assert!(report.contains("red, as it must be") && report.contains("<svg"), "{report}");
    let file = page.get(&format!("/drills/{link}/report.html?lang=ar")).await.when_ok();
    assert!(file.header("content-disposition").starts_with("attachment"));
    assert!(file.text.contains("إثبات الاستعادة"), "{}", file.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_needed_and_a_wrong_one_is_slow() {
    let site = Site::new().with_files("configs", &[Path::new("/nonexistent")]).initialised();
    let page = Page::of(&site);
    let token = page.token.clone().expect("a token");
    let open = |path: &'static str| page.ask(Method::GET, path, &[]);
    assert_eq!(open("/healthz").await.when_ok().json()["status"], "ok");
    let asked = open("/points").await;
    assert_eq!(asked.status, StatusCode::UNAUTHORIZED);
    assert!(
        asked.text.contains("type=\"password\"") && !asked.text.contains("<nav"),
        "{}",
        asked.text
    );
    for path in ["/api/v1/status", "/metrics"] {
        let refused = open(path).await;
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
        assert!(refused.header("www-authenticate").starts_with("Bearer"), "{:?}", refused.headers);
        assert_is("api-error", &refused.json());
    }

    let began = Instant::now();
    let guesses = ["wrong", "wronger", "another"].map(|guess| {
        let (page, value) = (&page, format!("Bearer {guess}"));
        async move { page.ask(Method::GET, "/api/v1/status", &[("authorization", &value)]).await }
    });
    for refused in futures::future::join_all(guesses).await {
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    }
    assert!(
        began.elapsed() >= Duration::from_secs(3),
        "guesses in parallel: {:?}",
        began.elapsed()
    );

    let encoded = |text: &str| format!("Token {}", base64(text.as_bytes()));
    let wrong = page.ask(Method::GET, "/session", &[("authorization", &encoded("wrong"))]).await;
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
    assert!(wrong.headers.get("set-cookie").is_none());
    let right = page.ask(Method::GET, "/session", &[("authorization", &encoded(&token))]).await;
    assert_eq!(right.status, StatusCode::NO_CONTENT);
    let cookie = right.header("set-cookie").to_owned();
    assert!(cookie.contains("; HttpOnly") && cookie.contains("; SameSite=Strict"), "{cookie}");
    assert!(!cookie.contains("Max-Age") && !cookie.contains(&token), "{cookie}");
    let pair = cookie.split(';').next().expect("a cookie");
    page.ask(Method::GET, "/points", &[("cookie", pair)]).await.when_ok();
    let forged = format!("{}0", &pair[..pair.len() - 1]);
    let forged = if forged == pair { format!("{}1", &pair[..pair.len() - 1]) } else { forged };
    let refused = page.ask(Method::GET, "/points", &[("cookie", &forged)]).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    let ended = page.ask(Method::GET, "/session/end", &[("cookie", pair)]).await;
    assert!(ended.header("set-cookie").contains("Max-Age=0"), "{:?}", ended.headers);

    // Without scripts.
    let asked = open("/session/basic").await;
    assert!(asked.header("www-authenticate").starts_with("Basic"), "{:?}", asked.headers);
    let basic = format!("Basic {}", base64(format!("any:{token}").as_bytes()));
    let right = page.ask(Method::GET, "/session/basic", &[("authorization", &basic)]).await;
    assert_eq!((right.status, right.header("location")), (StatusCode::SEE_OTHER, "/"));
    assert!(right.header("set-cookie").contains("HttpOnly"), "{:?}", right.headers);
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - group.len()));
        for digit in 0..4 {
            text.push(if digit <= group.len() {
                char::from(ALPHABET[(bits >> (18 - 6 * digit) & 63) as usize])
            } else {
                '='
            });
        }
    }
    text
}

#[test]
fn what_would_be_open_to_others_is_refused() {
    let site = Site::new().with_files("configs", &[Path::new("/nonexistent")]).initialised();
    let refused = site.run(["serve", "--listen", "0.0.0.0:0"]);
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("no token is set"), "{}", refused.stderr);
    let short = site.secret("short.token", "hunter2");
    let short = short.to_str().expect("UTF-8");
    let refused = site.run(["serve", "--listen", "127.0.0.1:0", "--token-file", short]);
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("shorter than 16") && !refused.stderr.contains("hunter2"));
    let open = site.secret("open.token", "a token that is long enough");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).expect("a mode can be set");
    let refused = site.run(["serve", "--token-file", open.to_str().expect("UTF-8")]);
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("chmod 600"), "{}", refused.stderr);
    let config = site.with("[serve]\nlisten = \"192.0.2.1:80\"");
    let refused = config.run(["config", "check"]);
    assert!(refused.stderr.contains("needs `serve.token`"), "{}", refused.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_names_of_the_host_and_other_methods_are_refused_and_every_answer_is_confined() {
    let site = Site::new()
        .with_files("configs", &[Path::new("/nonexistent")])
        .with("[serve]\nhosts = [\"dr.example\"]");
    let token = site.secret("page.token", "a token that is long enough");
    let site = site.initialised();
    let page = Page::with(
        &site,
        &["--listen", "127.0.0.1:0", "--token-file", token.to_str().expect("UTF-8")],
    );
    assert_eq!(page.token, None, "a token of a file is never printed");
    let bearer = ("authorization", "Bearer a token that is long enough");
    let (views, api) = (
        ["/", "/objectives", "/points", "/drills", "/alarms", "/history"],
        ["/api/v1", "/api/v1/status", "/api/v1/schemas", "/metrics"],
    );
    let others = [
        "/healthz",
        "/session",
        "/session/basic",
        "/session/end",
        "/assets/page.css",
        "/assets/page.js",
        "/assets/icon.svg",
    ];
    for path in views.iter().chain(&api).chain(&others) {
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS] {
            let answer = page.ask(method.clone(), path, &[bearer]).await;
            assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
            assert_eq!(answer.header("allow"), "GET, HEAD");
        }
        let rebound = page.ask(Method::GET, path, &[bearer, ("host", "evil.example")]).await;
        assert_eq!(rebound.status, StatusCode::MISDIRECTED_REQUEST, "{path}");
        let answer = page.ask(Method::GET, path, &[bearer]).await;
        assert!(answer.status != StatusCode::NOT_FOUND, "{path}");
        let policy = answer.header("content-security-policy");
        assert!(
            policy.starts_with("default-src 'none';") && !policy.contains("unsafe"),
            "{path}: {policy}"
        );
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-store"),
            ("x-frame-options", "DENY"),
        ] {
            assert_eq!(answer.header(name), value, "{path}");
        }
    }
    page.ask(Method::GET, "/", &[bearer, ("host", "DR.example:8443")]).await.when_ok();
    page.ask(Method::GET, "/", &[bearer, ("host", "localhost")]).await.when_ok();
    let arabic = page.ask(Method::GET, "/", &[bearer, ("accept-language", "ar-EG,en;q=0.5")]).await;
    assert!(arabic.text.contains("lang=\"ar\" dir=\"rtl\""));
    let kept = page.ask(Method::GET, "/?lang=ar&theme=dark", &[bearer]).await;
    let cookies: Vec<_> = kept.headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies.len(), 2, "{cookies:?}");
    assert!(kept.text.contains("data-theme=\"dark\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_is_for_its_owner_and_needs_no_token() {
    let site = Site::new().with_files("configs", &[Path::new("/nonexistent")]).initialised();
    let path = site.path("page.sock");
    let argument = path.to_str().expect("UTF-8");
    // What a killed process left behind.
    drop(UnixListener::bind(&path).expect("a socket"));
    let mut page = Page::with(&site, &["--socket", argument]);
    assert_eq!(page.token, None);
    let mode = fs::metadata(&path).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let answer = tokio::task::spawn_blocking({
        let path = path.clone();
        move || Page::through(&path, "/api/v1/status")
    });
    let (status, body) = answer.await.expect("it answers");
    assert_eq!(status, 200, "{body}");
    let second = site.run(["serve", "--socket", argument]);
    assert_eq!(second.code, Some(1), "{}", second.stderr);
    assert!(second.stderr.contains("cannot listen"), "{}", second.stderr);
    page.end(Signal::SIGTERM);
    assert!(!path.exists(), "the socket is left behind");
    fs::write(&path, "precious").expect("a file");
    let taken = site.run(["serve", "--socket", argument]);
    assert_eq!(taken.code, Some(1), "{}", taken.stderr);
    assert_eq!(fs::read_to_string(&path).expect("a file"), "precious");
    fs::remove_file(&path).expect("a file can be removed");
    let grouped = site.with(&format!("[serve]\nsocket = '{argument}'\nsocket_for_group = true"));
    let _page = Page::with(&grouped, &[]);
    let mode = fs::metadata(&path).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_cannot_be_read_is_shown_as_such_and_delays_nothing_else() {
    let site = Site::new();
    let tree = site.path("tree");
    fs::create_dir(&tree).expect("a directory");
    fs::write(tree.join("file"), "content").expect("a file");
    let site =
        site.with_files("configs", &[&tree]).with("[serve]\nrefresh_seconds = 0").initialised();
    site.succeed(["backup"]);
    site.succeed(["verify"]);
    let page = Page::of(&site);
    let good = page.get("/").await.when_ok().text;
    assert!(good.contains("Everything is within its limits"), "{good}");
    let away = site.path("away");
    fs::rename(site.repository(), &away).expect("it can be moved");
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let shown = page.get("/").await.when_ok().text;
        if shown.contains("The repository cannot be read") {
            assert!(
                shown.contains("Unknown") && !shown.contains("Everything is within"),
                "{shown}"
            );
            break;
        }
        assert!(Instant::now() < deadline, "never shown: {shown}");
    }
    let status = page.get("/api/v1/status").await.when_ok().json();
    assert_is("api-status", &status);
    assert!(status["problem"].as_str().is_some_and(|why| why.contains("repository")), "{status}");
    page.get("/history").await.when_ok();
    page.get("/healthz").await.when_ok();

    let late = Page::of(&site);
    let answer = late.get("/").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{}", answer.text);
    assert_is("api-error", &late.get("/api/v1/points").await.json());
    fs::rename(&away, site.repository()).expect("it can be moved back");
    let deadline = Instant::now() + Duration::from_secs(30);
    while late.get("/").await.status != StatusCode::OK {
        assert!(Instant::now() < deadline, "it never recovers");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_within_two_seconds_of_a_signal_whatever_is_open() {
    let site = Site::new().with_files("configs", &[Path::new("/nonexistent")]).initialised();
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut page = Page::of(&site);
        let address = page.place.trim_start_matches("http://").trim_end_matches('/').to_owned();
        // A connection that never sends its request.
        let open = std::net::TcpStream::connect(&address).expect("it accepts");
        page.get("/").await.when_ok();
        let (code, took) = page.end(signal);
        assert_eq!(code, Some(130));
        assert!(took < Duration::from_secs(2), "{took:?}");
        drop(open);
    }
    // A read that never ends delays neither what needs no repository nor the end.
    let mut command = site.command();
    command.env("KALEEM_DR_FAILPOINT", "read=hang:2");
    let mut page = Page::run(command, &["--listen", "127.0.0.1:0"]);
    let began = Instant::now();
    page.get("/healthz").await.when_ok();
    page.get("/history").await.when_ok();
    page.get("/metrics").await.when_ok();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let waiting = page.get("/");
    let ended = tokio::time::timeout(Duration::from_millis(500), waiting).await;
    assert!(ended.is_err(), "nothing was read, but the overview is shown");
    let (code, took) = page.end(Signal::SIGINT);
    assert_eq!(code, Some(130));
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_to_the_repository() {
    let site = with_history();
    let listing = || {
        let mut found = Vec::new();
        let mut rest = vec![site.repository()];
        while let Some(directory) = rest.pop() {
            for entry in fs::read_dir(&directory).expect("a directory") {
                let entry = entry.expect("an entry");
                let meta = entry.metadata().expect("it exists");
                if meta.is_dir() {
                    rest.push(entry.path());
                }
                found.push((entry.path(), meta.modified().expect("a time")));
            }
        }
        found.sort();
        found
    };
    let before = listing();
    let page = Page::of(&site);
    let (views, api) = paths(&site);
    for path in views.iter().chain(api.iter().map(|(path, _)| path)) {
        page.get(path).await.when_ok();
    }
    assert_eq!(listing(), before);
}
