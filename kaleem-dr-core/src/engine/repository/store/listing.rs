//! Checks a page of a listing before OpenDAL parses it.
//!
//! OpenDAL accepts any XML as a page. It treats an unrelated `200 OK` (a captive portal's page) as an empty listing, and a page
//! that announces more but has no continuation restarts the listing endlessly. Prune would treat objects missing from a listing
//! as garbage, so a page must be complete and name its continuation.

use quick_xml::{Reader, events::Event};

const ROOT: &str = "ListBucketResult";

/// If a request asks for a page, returns the token after which it begins.
pub(super) fn token_of_request(uri: &http::Uri) -> Option<String> {
    let mut is_listing = false;
    let mut token = String::new();
    let url: reqwest::Url = uri.to_string().parse().ok()?;
    for (name, value) in url.query_pairs() {
        match &*name {
            "list-type" => is_listing = true,
            "continuation-token" => token = value.into_owned(),
            _ => {}
        }
    }
    is_listing.then_some(token)
}

/// Checks a page requested with `token`.
///
/// # Errors
/// The defect of the page.
pub(super) fn check_page(page: &[u8], token: &str) -> Result<(), String> {
    let page = std::str::from_utf8(page).map_err(|_| "the listing is garbled: it is not UTF-8")?;
    let mut reader = Reader::from_str(page);
    let mut path: Vec<String> = Vec::new();
    let (mut ended, mut truncated, mut next) = (false, String::new(), String::new());
    loop {
        match reader
            .read_event()
            .map_err(|error| format!("the listing is cut or garbled: {error}"))?
        {
            Event::Start(start) => {
                let name = start.local_name().as_ref().to_owned();
                if path.is_empty() && name != ROOT {
                    return Err(format!("the response is not a listing, but <{name}>"));
                }
                path.push(name);
            }
            Event::End(_) => {
                path.pop();
                ended |= path.is_empty();
            }
            Event::Text(text) => {
                let place = match path.as_slice() {
                    [_, field] if field == "IsTruncated" => &mut truncated,
                    [_, field] if field == "NextContinuationToken" => &mut next,
                    _ => continue,
                };
                place.push_str(&text);
            }
            // A token may contain an entity; its presence is sufficient.
            Event::GeneralRef(_) if matches!(path.as_slice(), [_, field] if field == "NextContinuationToken") =>
            {
                next.push('&');
            }
            Event::Eof => break,
            _ => {}
        }
    }
    if !ended {
        return Err("the listing is cut".to_owned());
    }
    match truncated.trim() {
        "false" => Ok(()),
        "true" if next.trim().is_empty() => {
            Err("the listing is incomplete, but has no continuation".to_owned())
        }
        "true" if next.trim() == token => Err("the listing repeats its continuation".to_owned()),
        "true" => Ok(()),
        _ => Err("the listing does not show if it is complete".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_must_be_whole_and_say_how_it_goes_on() {
        let page = |inner: &str| {
            format!(
                "<?xml version=\"1.0\"?>\n<ListBucketResult xmlns=\"x\">{inner}</ListBucketResult>\n"
            )
        };
        let object = "<Contents><Key>a</Key><Size>1</Size></Contents>";
        let last = page(&format!("<IsTruncated>false</IsTruncated>{object}"));
        let more = page(&format!(
            "{object}<IsTruncated>true</IsTruncated><NextContinuationToken>t&amp;2</NextContinuationToken>"
        ));
        assert_eq!(check_page(last.as_bytes(), ""), Ok(()));
        assert_eq!(check_page(more.as_bytes(), "t1"), Ok(()));
        for (bad, why) in [
            (&last[..last.len() - 10], "cut"),
            (&last[..60], "cut"),
            ("", "cut"),
            (&page(object), "is complete"),
            (&page("<IsTruncated>true</IsTruncated>"), "no continuation"),
            (
                &page(
                    "<IsTruncated>true</IsTruncated><NextContinuationToken>t1</NextContinuationToken>",
                ),
                "repeats",
            ),
            ("<html><body>Log in</body></html>", "not a listing"),
        ] {
            let error = check_page(bad.as_bytes(), "t1").unwrap_err();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }

    #[test]
    fn only_listings_are_looked_at() {
        let uri = |text: &str| text.parse().unwrap();
        let asked =
            token_of_request(&uri("https://h/b?list-type=2&prefix=p%2F&continuation-token=a%2Bb"));
        assert_eq!(asked.as_deref(), Some("a+b"));
        assert_eq!(token_of_request(&uri("https://h/b/list-type=2")), None);
    }
}
