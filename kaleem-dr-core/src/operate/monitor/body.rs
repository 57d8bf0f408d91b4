//! The body of a webhook as a template in the language of Jinja.

use jiff::Timestamp;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, context, value::Serde};
use serde_json::Value;

use super::{
    Severity, When,
    notice::{Notice, NoticePart},
};
use crate::ground::Exit;

/// A template that renders every notice.
pub(super) struct Body {
    template: String,
    language: Environment<'static>,
}

impl Body {
    /// A template, tried on a sample.
    ///
    /// # Errors
    /// A sentence with the line, if it is not a template or names a field that no notice has.
    pub(super) fn new(template: &str) -> Result<Self, String> {
        let mut language = Environment::new();
        language.set_undefined_behavior(UndefinedBehavior::Strict);
        // The body may be of any type: `tojson` and `urlencode` are the template's.
        language.set_auto_escape_callback(|_| AutoEscape::None);
        let body = Self { template: template.to_owned(), language };
        body.of(&sample())?;
        Ok(body)
    }

    pub(super) fn of(&self, notice: &Notice) -> Result<String, String> {
        let title = notice.title();
        let fields: Value = serde_json::to_value(notice).unwrap_or_default();
        let fields = context! { title, ..minijinja::Value::from(Serde(fields)) };
        self.language.render_str(&self.template, fields).map_err(|error| {
            let line = error.line().unwrap_or(1);
            let detail = error.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
            let undeclared = self.undeclared();
            format!("line {line}: {}{detail}{undeclared}", error.kind())
        })
    }

    /// The variables that no notice has, for the message of an error.
    fn undeclared(&self) -> String {
        let Ok(template) = self.language.template_from_str(&self.template) else {
            return String::new();
        };
        let known = serde_json::to_value(sample()).unwrap_or_default();
        let mut unknown: Vec<String> = template
            .undeclared_variables(false)
            .into_iter()
            .filter(|name| known.get(name).is_none() && name != "title")
            .collect();
        unknown.sort();
        if unknown.is_empty() { String::new() } else { format!(" ({})", unknown.join(", ")) }
    }
}

/// A notice with every field.
fn sample() -> Notice {
    let part = NoticePart {
        source: "files".into(),
        exit_code: Exit::Failed.code(),
        message: Some("a message".into()),
    };
    Notice {
        event: When::Failure,
        job: "backup".into(),
        host: "host".into(),
        run: Some("01".into()),
        exit: Exit::Partial,
        exit_code: Exit::Partial.code(),
        started: Some(Timestamp::UNIX_EPOCH),
        finished: Timestamp::UNIX_EPOCH,
        sources: vec![part],
        severity: Severity::Critical,
        message: "a message".into(),
        report: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_has_the_fields_of_the_notice() {
        let template = "{\"text\": {{ (title ~ \" \" ~ message) | tojson }}, \"failed\": [\
                        {%- for part in sources if part.exit_code %}{{ part.source | tojson }}{% endfor -%} ]}";
        let notice = Notice { message: "a \"quoted\"\nmessage".into(), ..sample() };
        let text = Body::new(template).unwrap().of(&notice).unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["text"], "host: backup failed a \"quoted\"\nmessage");
        assert_eq!(value["failed"], serde_json::json!(["files"]));
    }

    #[test]
    fn a_fault_names_its_line_and_the_field() {
        let why = |template| Body::new(template).err().unwrap();
        assert!(why("{{ host }}\n{{ hots }}").starts_with("line 2: undefined value"));
        assert!(why("{{ hots }}").ends_with("(hots)"));
        assert!(why("a\n{% if host %}").starts_with("line 2: syntax error"));
    }
}
