//! Mails about real failovers of the test's world, taken by a real listener.

mod relay;

use super::{Mailer, Notifier, PATIENCE, Security, Settings};
use crate::clock::Clock;
use crate::failover::Request;
use crate::failover::tests::site::Site;
use crate::failover::tests::world::{At, Fault, World};
use crate::service::failovers::Refused;
use crate::store::Store;
use crate::workflow::{Ask, JobState};
use relay::Relay;
use serde_json::json;
use shared::tls::Role;
use std::time::Duration;

fn settings(relay: &Relay) -> Settings {
    Settings {
        smtp: relay.address.to_string(),
        from: "MigrateKit <oma@example.org>".to_owned(),
        tls: Security::None,
        ca: None,
        user: None,
        password_file: None,
    }
}

fn told(request: Request, email: &str) -> Request {
    let config = json!({ "email": email, "webhook": "kept as it is" });
    Request { notification_config: config.as_object().cloned(), ..request }
}

fn notifier(store: &Store, relay: &Relay, later: Duration) -> Notifier {
    let mailer: Mailer = settings(relay).mailer().expect("usable");
    Notifier::new(store.clone(), mailer, Clock::from(Clock::wall().now() + later))
}

async fn sent(store: &Store, relay: &Relay) -> Vec<String> {
    notifier(store, relay, Duration::from_secs(1)).round().await;
    relay.mails()
}

/// As its reader sees it: what was encoded for the way is not looked at (all of it is ASCII, lines are folded).
fn has(mail: &str, parts: &[&str]) {
    let whole = mail.replace("=\r\n", "").replace("=3D", "=");
    for part in parts {
        assert!(whole.contains(part), "{part:?} is not in\n{whole}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_asked_for_it_hears_how_a_test_went() {
    for world in [World::sqlite().await, World::mariadb().await] {
        let (relay, store) = (Relay::start(None, &[]).await, &world.plant.app.store);
        let quiet = world.begin().await;
        world.drive(&quiet).await;
        assert_eq!(sent(store, &relay).await, [] as [String; 0], "nobody asked to be told");

        let request = told(world.request().await, "admin@company.com");
        let id = world.ask(&request).await.expect("taken");
        world.drive(&id).await;
        let mails = sent(store, &relay).await;
        assert_eq!((mails.len(), sent(store, &relay).await.len()), (1, 1), "once");
        let cleanup = format!("migratekit failover cleanup {id}");
        has(&mails[0], &["To: admin@company.com", "From: MigrateKit <oma@example.org>", "has completed"]);
        has(&mails[0], &["completed (succeeded)", "Took:", id.as_str(), &cleanup, "Message-ID: <"]);
        assert_eq!(relay.said(), ["RCPT TO:<admin@company.com>"]);

        world.fails("start", At::Act, &[Fault::Permanent]);
        let failing = world.ask(&request).await.expect("taken");
        assert_eq!(world.drive(&failing).await.state, JobState::RolledBack);
        let mails = sent(store, &relay).await;
        assert_eq!(mails.len(), 2);
        let error = world.failover(&failing).await.job.error.expect("why");
        has(&mails[1], &["has failed", "failed (rolled_back)", &error.reason, "troubleshooting.md"]);

        // An undo that gives up waits for somebody, who is told, and told again when it does so again.
        world.fails("start", At::Act, &[Fault::Permanent]);
        world.fails("clone-0", At::Undo, &[Fault::Permanent, Fault::Permanent]);
        let waits = world.ask(&request).await.expect("taken");
        assert_eq!(world.drive(&waits).await.state, JobState::NeedsAttention);
        let mails = sent(store, &relay).await;
        assert_eq!(mails.len(), 3);
        has(
            &mails[2],
            &["waits for a decision", &format!("migratekit failover retry {waits}"), "retry, skip"],
        );
        world.engine().ask(&waits, &Ask::Retry, "root").await.expect("taken");
        assert_eq!(world.drive(&waits).await.state, JobState::NeedsAttention);
        assert_eq!(sent(store, &relay).await.len(), 4);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_one_is_told_when_it_has_moved_come_back_or_was_committed() {
    let relay = Relay::start(None, &[]).await;
    for (commits, what) in [(false, "was rolled back"), (true, "was committed")] {
        let site = Site::sqlite().await;
        let (app, before) = (&site.world.plant.app, relay.mails().len());
        let asked = site.ask(&told(site.request().await, "admin@company.com")).await.expect("taken");
        let id = asked.failover.record.job;
        Box::pin(site.drive(&id)).await;
        let mails = sent(&app.store, &relay).await;
        assert_eq!(mails.len(), before + 1);
        let (commit, rollback) = (format!("failover commit {id}"), format!("failover rollback {id}"));
        has(&mails[before], &["live failover of", "has completed", &commit, &rollback]);
        match commits {
            true => drop(site.commit(&id).await.expect("taken")),
            false => {
                let back = site.roll_back(&id).await;
                Box::pin(site.drive(&back)).await;
            }
        }
        let mails = sent(&app.store, &relay).await;
        assert_eq!(mails.len(), before + 2, "{mails:#?}");
        has(&mails[before + 1], &[what]);
    }
}

/// A relay that says "later" is asked again later; one without such a mailbox, or a day later, never. No job waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_is_sent_again_and_at_last_given_up() {
    let world = World::sqlite().await;
    let store = &world.plant.app.store;
    let request = told(world.request().await, "admin@company.com");
    let test = async || {
        let id = world.ask(&request).await.expect("taken");
        assert_eq!(world.drive(&id).await.state, JobState::Succeeded);
    };
    let relay = Relay::start(None, &["451 later", "550 no such user"]).await;
    test().await;
    notifier(store, &relay, Duration::from_secs(1)).round().await;
    notifier(store, &relay, Duration::from_secs(5)).round().await;
    assert_eq!((relay.said().len(), relay.mails().len()), (1, 0), "not before its time");
    notifier(store, &relay, Duration::from_secs(30)).round().await;
    notifier(store, &relay, Duration::from_secs(3600)).round().await;
    assert_eq!((relay.said().len(), relay.mails().len()), (2, 0), "there is no such mailbox: given up");

    test().await;
    let mut away = Relay::start(None, &[]).await;
    away.address.set_port(1);
    notifier(store, &away, Duration::from_secs(1)).round().await;
    notifier(store, &relay, Duration::from_secs(60)).round().await;
    assert_eq!(relay.mails().len(), 1, "when there is one again");

    test().await;
    notifier(store, &relay, PATIENCE + Duration::from_secs(60)).round().await;
    notifier(store, &relay, Duration::from_secs(60)).round().await;
    assert_eq!(relay.mails().len(), 1, "nobody wants to hear of it now");
}

/// TLS before anything else, by the one crypto provider, with a name and a password from a file; none in clear.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_goes_to_a_relay_that_is_known_by_its_certificate() {
    use migratekit::dev_ca::{Existing, Folder, Holder, make};
    let dir = tempfile::tempdir().expect("a folder");
    let ca = Folder::new(dir.path().join("ca"));
    let name = "relay".parse().expect("a name");
    let hosts = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    make(&ca, &[Holder { role: Role::Oma, name, hosts }], 2, Existing::Refuse).expect("made");
    let files = ca.files(Role::Oma, "relay");
    let relay = Relay::start(Some(files.server_http().expect("usable")), &[]).await;
    let password = dir.path().join("password");
    std::fs::write(&password, "s3cret\n").expect("written");
    let settings = Settings {
        smtp: format!("localhost:{}", relay.address.port()),
        tls: Security::StartTls,
        ca: Some(files.ca),
        user: Some("oma".to_owned()),
        password_file: Some(password),
        ..settings(&relay)
    };
    let world = World::sqlite().await;
    let store = world.plant.app.store.clone();
    let id = world.ask(&told(world.request().await, "admin@company.com")).await.expect("taken");
    world.drive(&id).await;
    // The system's CAs know nothing of it.
    let stranger = Settings { ca: None, ..settings.clone() }.mailer();
    if let Ok(mailer) = stranger {
        Notifier::new(store.clone(), mailer, Clock::from(Clock::wall().now() + Duration::from_secs(1)))
            .round()
            .await;
        assert_eq!(relay.said(), [] as [String; 0], "nothing is said to a stranger");
    }
    let mailer = settings.mailer().expect("usable");
    Notifier::new(store, mailer, Clock::from(Clock::wall().now() + Duration::from_secs(60))).round().await;
    assert_eq!(relay.mails().len(), 1);
    // "\0oma\0s3cret"
    assert_eq!(relay.said()[0], "AUTH PLAIN AG9tYQBzM2NyZXQ=");

    let clear =
        Settings { tls: Security::None, ..settings.clone() }.mailer().err().expect("refused").to_string();
    assert!(clear.contains("notifications.tls") && clear.contains("no password"), "{clear}");
    for (wrong, key) in [
        (Settings { smtp: "relay".to_owned(), ..settings.clone() }, "notifications.smtp"),
        (Settings { from: "nobody".to_owned(), ..settings.clone() }, "notifications.from"),
        (Settings { user: None, ..settings.clone() }, "notifications.user"),
        (Settings { ca: Some(dir.path().join("none")), ..settings }, "notifications.ca"),
    ] {
        let error = wrong.mailer().err().expect("refused").to_string();
        assert!(error.contains(key), "{error}");
    }
}

#[tokio::test]
async fn an_address_that_is_none_is_refused_with_its_field() {
    let world = World::sqlite().await;
    for (config, word) in [
        (json!({ "email": "admin" }), "admin@example.org"),
        (json!({ "email": "a@b\r\nRCPT TO:<c@d>" }), "no mail address"),
        (json!({ "email": ["a@b.c"] }), "as a text"),
    ] {
        let request = Request { notification_config: config.as_object().cloned(), ..world.request().await };
        let refused = world.ask(&request).await.expect_err("none");
        assert_eq!(refused.reason(), "INVALID_REQUEST", "{refused}");
        assert!(
            matches!(&refused, crate::service::Error::Failover(Refused::Invalid(invalid)) if invalid.field == "notification_config.email"),
            "{refused:?}"
        );
        assert!(refused.to_string().contains(word), "{refused}");
    }
}
