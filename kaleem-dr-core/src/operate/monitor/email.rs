//! Emails over SMTP.

use std::fs;

use async_trait::async_trait;
use lettre::{
    AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor,
    message::{Attachment, Mailbox, MultiPart, SinglePart, header::ContentType},
    transport::smtp::{
        authentication::Credentials,
        client::{Certificate, Tls, TlsParameters},
        extension::ClientId,
    },
};

use super::{
    EmailSecurity, EmailSettings,
    notice::Notice,
    notifier::{Deliver, TIMEOUT, secret},
    post::{self, Refusal},
};
use crate::{
    ground::{error_chain, host::HostName},
    operate::config::secret::{Environment, ExposeSecret as _},
};

pub(super) struct Email {
    server: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    to: Vec<Mailbox>,
    attach_report: bool,
}

/// The first fault of the settings, as a sentence with the key.
pub(super) fn fault(settings: &EmailSettings) -> Option<String> {
    let is_address = |text: &String| text.parse::<Mailbox>().is_ok();
    if let Some(bad) =
        [&settings.from].into_iter().chain(&settings.to).find(|text| !is_address(text))
    {
        return Some(format!(
            "`monitoring.email`: `{bad}` is not an address such as backup@example.org"
        ));
    }
    if settings.to.is_empty() {
        return Some("`monitoring.email`: `to` is empty".into());
    }
    if settings.username.is_some() != settings.password.is_some() {
        return Some("`monitoring.email`: set both `username` and `password`, or neither".into());
    }
    (settings.password.is_some() && settings.security == EmailSecurity::None).then(|| {
        "`monitoring.email`: a password is not sent without encryption; set `security` to \"starttls\" or \"tls\"".into()
    })
}

impl Email {
    pub(super) fn new(
        settings: &EmailSettings,
        host: &HostName,
        environment: &Environment,
    ) -> Result<Self, String> {
        let name = named(&settings.to);
        let wrong = |why: &dyn std::fmt::Display| format!("{name}: {why}");
        let address = |text: &String| text.parse::<Mailbox>().map_err(|error| wrong(&error));
        let mut server = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&settings.server)
            .timeout(Some(TIMEOUT));
        // A name in other letters is not one of the DNS, so a server may refuse it.
        if host.as_str().is_ascii() {
            server = server.hello_name(ClientId::Domain(host.to_string()));
        }
        let mut parameters = TlsParameters::builder(settings.server.clone());
        if let Some(path) = &settings.ca_file {
            let pem =
                fs::read(path).map_err(|error| wrong(&format!("{}: {error}", path.display())))?;
            let certificate = Certificate::from_pem(&pem)
                .map_err(|error| wrong(&format!("{}: {}", path.display(), error_chain(&error))))?;
            parameters = parameters.add_root_certificate(certificate);
        }
        let parameters = parameters.build_rustls().map_err(|error| wrong(&error_chain(&error)))?;
        let (tls, port) = match settings.security {
            EmailSecurity::Tls => (Tls::Wrapper(parameters), 465),
            EmailSecurity::Starttls => (Tls::Required(parameters), 587),
            EmailSecurity::None => (Tls::None, 25),
        };
        server = server.tls(tls).port(settings.port.unwrap_or(port));
        if let (Some(username), Some(password)) = (&settings.username, &settings.password) {
            let password = secret(&name, password, environment)?.expose_secret().to_owned();
            server = server.credentials(Credentials::new(username.clone(), password));
        }
        Ok(Self {
            server: server.build(),
            from: address(&settings.from)?,
            to: settings.to.iter().map(address).collect::<Result<_, _>>()?,
            attach_report: settings.attach_report,
        })
    }

    fn message(&self, notice: &Notice) -> Result<Message, String> {
        let message = Message::builder().from(self.from.clone()).subject(notice.title());
        let message = self.to.iter().fold(message, |message, to| message.to(to.clone()));
        let text = SinglePart::plain(notice.message.clone());
        let report = notice.report.as_ref().filter(|_| self.attach_report);
        let built = match report {
            None => message.singlepart(text),
            Some(report) => {
                let name =
                    format!("{}-{}.html", notice.job, notice.run.as_deref().unwrap_or("report"));
                let page = Attachment::new(name).body(report.to_string(), ContentType::TEXT_HTML);
                message.multipart(MultiPart::mixed().singlepart(text).singlepart(page))
            }
        };
        built.map_err(|error| error_chain(&error))
    }
}

/// Name of the recipients, for logs.
fn named<T: ToString>(to: &[T]) -> String {
    format!("email to {}", to.iter().map(T::to_string).collect::<Vec<_>>().join(", "))
}

#[async_trait]
impl Deliver for Email {
    fn name(&self) -> String {
        named(&self.to)
    }

    async fn deliver(&self, notice: &Notice) -> Result<(), String> {
        let message = self.message(notice)?;
        post::repeated(|| async {
            // A server that was left in the middle may have accepted the message: better twice than never.
            self.server.send(message.clone()).await.map(drop).map_err(|error| Refusal {
                may_pass: !error.is_permanent(),
                why: error_chain(&error),
            })
        })
        .await
    }
}
