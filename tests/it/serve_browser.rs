//! The page in Chromium, in both languages: every view, a filter, a report, a wrong token. Nothing is
//! logged as an error, and no request leaves this machine.

use std::{env, fs, path::PathBuf};

use serde_json::Value;

use crate::{
    serve::with_history,
    support::{browser::Browser, page::Page, site::Site},
};

/// Where pictures go: `KALEEM_TEST_PICTURES`, or else nowhere.
fn pictures() -> Option<PathBuf> {
    let directory: PathBuf = env::var_os("KALEEM_TEST_PICTURES")?.into();
    fs::create_dir_all(&directory).expect("a directory");
    Some(directory)
}

/// Asserts that nothing went wrong since the last call, and that nothing was asked for elsewhere.
async fn assert_quiet(browser: &Browser, page: &Page) {
    let errors: Vec<Value> = browser.log("browser").await;
    assert!(errors.is_empty(), "the console: {errors:?}");
    assert_near(browser, page).await;
}

/// Asserts that nothing was requested elsewhere since the last call.
async fn assert_near(browser: &Browser, page: &Page) {
    let requested = browser.requested().await;
    assert!(!requested.is_empty(), "requests are not recorded");
    for address in requested {
        assert!(address.starts_with(&page.place), "a request to {address}");
    }
}

/// Signs in: first with a wrong token.
async fn sign_in(browser: &Browser, page: &Page, wrong: &str) {
    browser.go(&page.place).await;
    browser.until("document.activeElement.id === 'token'").await;
    browser.type_into("#token", "a wrong token").await;
    browser.click("#sign-in button").await;
    browser.until(&format!("document.getElementById('wrong').textContent === '{wrong}'")).await;
    browser.type_into("#token", page.token.as_deref().expect("a token")).await;
    browser.click("#sign-in button").await;
    browser.until("document.querySelector('nav a[aria-current=page]') !== null").await;
    let cookie = browser.value("document.cookie").await;
    assert_eq!(cookie, "", "a script can read the session");
    // Chromium logs each answer with 401 as an error: that of the page, and that of the wrong token.
    for entry in browser.log("browser").await {
        let message = entry["message"].as_str().unwrap_or_default();
        assert!(message.contains("401 (Unauthorized)"), "{message}");
    }
}

/// Asserts what holds for every page: one heading, one main part, tables with heads, names of regions.
async fn assert_accessible(browser: &Browser, language: &str, direction: &str) {
    for (expression, expected) in [
        ("document.documentElement.lang", Value::from(language)),
        ("getComputedStyle(document.body).direction", direction.into()),
        ("document.querySelectorAll('h1').length", 1.into()),
        ("document.querySelectorAll('main').length", 1.into()),
        ("document.querySelectorAll('nav').length > 0", true.into()),
        (
            "[...document.querySelectorAll('table')].every(t => t.querySelectorAll('thead th[scope=col]').length > 0 || t.classList.contains('stages'))",
            true.into(),
        ),
        (
            "[...document.querySelectorAll('[role=region]')].every(r => r.hasAttribute('aria-label') || document.getElementById(r.getAttribute('aria-labelledby')))",
            true.into(),
        ),
        ("[...document.querySelectorAll('img')].every(i => i.hasAttribute('alt'))", true.into()),
        (
            "[...document.querySelectorAll('select, input')].every(f => f.labels.length === 1)",
            true.into(),
        ),
        (
            "new Set([...document.querySelectorAll('[id]')].map(e => e.id)).size === document.querySelectorAll('[id]').length",
            true.into(),
        ),
        // Nothing is wider than the window, except in parts that scroll by themselves.
        (
            "document.documentElement.scrollWidth <= document.documentElement.clientWidth",
            true.into(),
        ),
    ] {
        let value: Value = browser.value(expression).await;
        let at = browser.value("location.href").await;
        assert_eq!(value, expected, "{expression} on {at}");
    }
}

/// Walks through every view.
async fn walk(site: &Site, language: &str, is_dark: bool) {
    let Some(browser) = Browser::open(language, is_dark).await else { return };
    let page = Page::of(site);
    let (wrong, direction, all, bad) = match language {
        "ar" => ("هذا الرمز غير صحيح.", "rtl", "الكل", "لم ينجح"),
        _ => ("This token is wrong.", "ltr", "all", "did not succeed"),
    };
    let colours = if is_dark { "dark" } else { "light" };
    let take = async |name: &str| {
        if let Some(directory) = pictures() {
            browser.picture(&directory.join(format!("{name}-{language}-{colours}.png"))).await;
        }
    };
    browser.go(&page.place).await;
    browser.until("!document.getElementById('sign-in').hidden").await;
    take("sign-in").await;
    sign_in(&browser, &page, wrong).await;
    let background = browser.value("getComputedStyle(document.body).backgroundColor").await;
    assert_eq!(background == "rgb(255, 255, 255)", !is_dark, "{background}");
    assert_near(&browser, &page).await;

    // The first key of a keyboard leads to the link that skips the navigation.
    browser.tab().await;
    browser.until("document.activeElement.classList.contains('skip')").await;
    let outline = browser.value("getComputedStyle(document.activeElement).outlineStyle").await;
    assert_ne!(outline, "none", "the focus is invisible");

    for (name, path) in [
        ("overview", "/"),
        ("objectives", "/objectives"),
        ("points", "/points"),
        ("drills", "/drills"),
        ("alarms", "/alarms"),
        ("history", "/history"),
    ] {
        browser.click(&format!("nav a[href='{path}']")).await;
        browser.until(&format!("location.pathname === '{path}'")).await;
        browser.until(&format!("document.querySelector('nav a[aria-current=page]').getAttribute('href') === '{path}'")).await;
        assert_accessible(&browser, language, direction).await;
        take(name).await;
    }

    // A filter, with the button that works without a script.
    let before = browser.value("document.querySelectorAll('tbody tr').length").await;
    assert_eq!(
        browser.value("document.querySelector('select[name=outcome] option').text").await,
        all
    );
    browser.click("select[name=outcome] option[value=bad]").await;
    browser.click("form.filter button").await;
    browser.until("location.search.includes('outcome=bad')").await;
    let after = browser.value("document.querySelectorAll('tbody tr').length").await;
    assert!(after.as_u64() < before.as_u64() && after.as_u64() > Some(0), "{before}, {after}");
    let chosen = browser
        .value("document.querySelector('select[name=outcome]').selectedOptions[0].text")
        .await;
    assert_eq!(chosen, bad);
    take("filter").await;
    browser.click("tbody tr td:last-child a").await;
    browser.until("location.pathname.startsWith('/history/')").await;
    assert_accessible(&browser, language, direction).await;
    take("run").await;

    // What is in a point, down to a directory.
    browser.click("nav a[href='/points']").await;
    browser.until("location.pathname === '/points'").await;
    browser.click("tbody tr:last-child ul.chips a").await;
    browser.until("location.pathname.startsWith('/snapshots/')").await;
    let tree = site.path("tree");
    let mut above: Vec<_> = tree.ancestors().collect();
    above.pop();
    for (level, directory) in above.iter().rev().enumerate() {
        browser.click(&format!("tbody a[href*='path={}#']", directory.display())).await;
        browser
            .until(&format!("document.querySelectorAll('.crumbs li').length === {}", level + 2))
            .await;
    }
    let text = browser.value("document.querySelector('tbody').innerText").await;
    assert!(text.as_str().is_some_and(|text| text.contains("<script>alert(1)")), "{text}");
    assert_accessible(&browser, language, direction).await;
    take("files").await;

    // A report.
    browser.click("nav a[href='/drills']").await;
    browser.until("location.pathname === '/drills'").await;
    browser.click("tbody a").await;
    browser.until("location.pathname.startsWith('/drills/')").await;
    browser.until("document.querySelectorAll('svg[role=img]').length === 2").await;
    browser.until("document.querySelector('.verdict.good') !== null").await;
    take("report").await;
    assert_accessible(&browser, language, direction).await;

    // The choices of the reader stay.
    let (theme, paper) =
        if is_dark { ("light", "rgb(255, 255, 255)") } else { ("dark", "rgb(18, 22, 29)") };
    browser.click(&format!(".themes a[href*='theme={theme}']")).await;
    browser.until(&format!("getComputedStyle(document.body).backgroundColor === '{paper}'")).await;
    browser.click("a.language").await;
    browser.until(&format!("document.documentElement.lang !== '{language}'")).await;
    browser.click("nav a[href='/']").await;
    browser.until("location.pathname === '/'").await;
    browser.until(&format!("document.documentElement.lang !== '{language}'")).await;
    browser.until(&format!("getComputedStyle(document.body).backgroundColor === '{paper}'")).await;
    assert_quiet(&browser, &page).await;

    browser.click("a[href='/session/end']").await;
    browser.until("document.getElementById('sign-in') !== null").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_can_be_used_in_english_and_in_arabic_in_light_and_in_dark() {
    let site = with_history();
    walk(&site, "en", false).await;
    walk(&site, "ar", true).await;
    if pictures().is_some() {
        walk(&site, "en", true).await;
        walk(&site, "ar", false).await;
    }
}
