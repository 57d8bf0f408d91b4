//! Chromium without a window, driven through `chromedriver` (W3C WebDriver).

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use reqwest::Client;
use serde_json::{Value, json};

use super::servers;

/// Key of an element in WebDriver's JSON.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
const PATIENCE: Duration = Duration::from_secs(30);

/// A browser with one window. It ends when this value is dropped.
pub struct Browser {
    driver: Child,
    client: Client,
    session: String,
    profile: tempfile::TempDir,
}

impl Browser {
    /// A browser that prefers a language and colours; `None` where none can run.
    pub async fn open(language: &str, is_dark: bool) -> Option<Self> {
        let program = servers::chromedriver()?;
        let profile = tempfile::tempdir().expect("a temporary directory can be made");
        let mut driver = Command::new(program)
            .arg("--port=0")
            .env("HOME", profile.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver can be run");
        let mut lines = BufReader::new(driver.stdout.take().expect("it is a pipe")).lines();
        let port = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| {
                line.split_once("successfully on port ")
                    .map(|(_, port)| port.trim_end_matches('.').parse::<u16>().ok())
            })
            .flatten()
            .expect("chromedriver prints its port");
        // A full pipe would stop it.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        let client = Client::builder().no_proxy().build().expect("a client can be made");
        let mut browser =
            Self { driver, client, session: format!("http://127.0.0.1:{port}"), profile };
        let data = browser.profile.path().join("data");
        let mut args = vec![
            "--headless=new".to_owned(),
            "--no-sandbox".into(),
            "--disable-dev-shm-usage".into(),
            "--disable-gpu".into(),
            "--disable-background-networking".into(),
            "--disable-component-update".into(),
            "--no-first-run".into(),
            "--window-size=1280,900".into(),
            "--hide-scrollbars".into(),
            format!("--accept-lang={language}"),
            format!("--user-data-dir={}", data.display()),
        ];
        if is_dark {
            args.push("--blink-settings=preferredColorScheme=0".into());
        }
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": { "args": args, "prefs": { "intl.accept_languages": language } },
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
        } } });
        let made = browser.call("session", wanted).await;
        let id = made["sessionId"].as_str().expect("a session").to_owned();
        browser.session = format!("{}/session/{id}", browser.session);
        Some(browser)
    }

    async fn call(&self, path: &str, body: Value) -> Value {
        let request = self.client.post(format!("{}/{path}", self.session)).json(&body);
        let answer = request.send().await.expect("chromedriver answers");
        let mut answer: Value = answer.json().await.expect("chromedriver answers with JSON");
        let value = answer["value"].take();
        assert!(value["error"].is_null(), "{path} {body}: {value}");
        value
    }

    /// Opens an address and waits until it is loaded.
    pub async fn go(&self, url: &str) {
        self.call("url", json!({ "url": url })).await;
    }

    /// The value of an expression in the page.
    pub async fn value(&self, expression: &str) -> Value {
        let script = format!("return ({expression});");
        self.call("execute/sync", json!({ "script": script, "args": [] })).await
    }

    /// Waits until an expression is true.
    pub async fn until(&self, expression: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.value(expression).await != Value::Bool(true) {
            let text = self.value("document.body.innerText").await;
            assert!(Instant::now() < deadline, "never: {expression}; the page is {text}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn element(&self, selector: &str) -> String {
        let found = self.call("element", json!({ "using": "css selector", "value": selector }));
        found.await[ELEMENT].as_str().expect("an element").to_owned()
    }

    pub async fn click(&self, selector: &str) {
        let element = self.element(selector).await;
        self.call(&format!("element/{element}/click"), json!({})).await;
    }

    /// Types into a field, or into whatever has the focus.
    pub async fn type_into(&self, selector: &str, text: &str) {
        let element = self.element(selector).await;
        self.call(&format!("element/{element}/value"), json!({ "text": text })).await;
    }

    /// Presses the tabulator key.
    pub async fn tab(&self) {
        let keys = json!([{ "type": "keyDown", "value": "\u{e004}" }, { "type": "keyUp", "value": "\u{e004}" }]);
        let action = json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": keys }] });
        self.call("actions", action).await;
    }

    /// The entries of a log since the last call: `browser` (the console) or `performance` (requests among others).
    pub async fn log(&self, kind: &str) -> Vec<Value> {
        let log = self.call("se/log", json!({ "type": kind })).await;
        log.as_array().expect("a list").clone()
    }

    /// The addresses on any network that were requested since the last call.
    pub async fn requested(&self) -> Vec<String> {
        let entries = self.log("performance").await;
        let address = |entry: &Value| {
            let message: Value = serde_json::from_str(entry["message"].as_str()?).ok()?;
            let message = &message["message"];
            (message["method"] == "Network.requestWillBeSent")
                .then(|| message["params"]["request"]["url"].as_str().map(str::to_owned))?
        };
        let is_of_network =
            |address: &String| !address.starts_with("chrome") && !address.starts_with("data:");
        entries.iter().filter_map(address).filter(is_of_network).collect()
    }

    /// Writes a picture of the page from its beginning to its end.
    pub async fn picture(&self, path: &Path) {
        let height = self.value("document.documentElement.scrollHeight").await;
        let height = height.as_u64().unwrap_or(900).clamp(700, 2600);
        let shot = json!({
            "cmd": "Page.captureScreenshot",
            "params": { "captureBeyondViewport": true, "clip": { "x": 0, "y": 0, "width": 1280, "height": height, "scale": 1 } },
        });
        let shot = self.call("goog/cdp/execute", shot).await;
        let text = shot["data"].as_str().expect("a picture");
        fs::write(path, decoded(text)).expect("the picture can be written");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Chromium ends with its session; the driver ends what is left of it.
        let ending = std::net::TcpStream::connect(
            self.session.trim_start_matches("http://").split('/').next().unwrap_or_default(),
        );
        if let Ok(mut stream) = ending {
            use std::io::{Read as _, Write as _};
            let path = self.session.splitn(4, '/').nth(3).unwrap_or_default();
            let _ = write!(
                stream,
                "DELETE /{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            );
            let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
            let _ = stream.read(&mut [0; 64]);
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// Decodes Base64, which WebDriver uses for pictures.
fn decoded(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0u32, 0u32);
    for digit in text.bytes().filter_map(|byte| ALPHABET.iter().position(|one| *one == byte)) {
        bits = bits << 6 | u32::try_from(digit).expect("a digit");
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).expect("a byte"));
        }
    }
    bytes
}
