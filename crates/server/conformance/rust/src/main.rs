//! Google's Rust client against a running server: `HULLWATCH_ADDRESS` is host and port, `HULLWATCH_TOKEN` an admin's token.

use google_cloud_auth::credentials::{
    CacheableResource, Credentials, CredentialsProvider, EntityTag,
};
use google_cloud_auth::errors::CredentialsError;
use google_cloud_gax::paginator::ItemPaginator;
use google_cloud_lro::Poller;
use google_cloud_securitycenter_v2::client::SecurityCenter;
use google_cloud_securitycenter_v2::model::finding::{Mute, Severity, State};
use google_cloud_securitycenter_v2::model::{
    ExternalSystem, Finding, MuteConfig, NotificationConfig, SecurityMarks, Source,
    bulk_mute_findings_request::MuteState, mute_config::MuteConfigType,
    notification_config::StreamingConfig,
};
use google_cloud_wkt::FieldMask;
use http::{Extensions, HeaderMap, HeaderValue};

type Outcome = Result<(), Box<dyn std::error::Error>>;

const ORGANIZATION: &str = "organizations/1";
const GLOBAL: &str = "organizations/1/locations/global";

/// A bearer token as it is.
#[derive(Debug)]
struct Token(String);

impl CredentialsProvider for Token {
    async fn headers(
        &self,
        _: Extensions,
    ) -> Result<CacheableResource<HeaderMap>, CredentialsError> {
        let mut data = HeaderMap::new();
        let value = HeaderValue::from_str(&format!("Bearer {}", self.0))
            .map_err(|error| CredentialsError::from_source(false, error))?;
        data.insert(http::header::AUTHORIZATION, value);
        Ok(CacheableResource::New {
            entity_tag: EntityTag::new(),
            data,
        })
    }

    async fn universe_domain(&self) -> Option<String> {
        None
    }
}

async fn client(token: &str) -> Result<SecurityCenter, Box<dyn std::error::Error>> {
    let address = std::env::var("HULLWATCH_ADDRESS")?;
    Ok(SecurityCenter::builder()
        .with_endpoint(format!("http://{address}"))
        .with_credentials(Credentials::from(Token(token.to_owned())))
        .build()
        .await?)
}

/// What all checks work on: a source of their own with five findings.
struct Fixture {
    client: SecurityCenter,
    parent: String,
}

impl Fixture {
    async fn new(name: &str) -> Result<Self, Box<dyn std::error::Error>> {
        let client = client(&std::env::var("HULLWATCH_TOKEN")?).await?;
        let source = client
            .create_source()
            .set_parent(ORGANIZATION)
            .set_source(
                Source::new().set_display_name(format!("rust {name} {}", std::process::id())),
            )
            .send()
            .await?;
        let parent = format!("{}/locations/global", source.name);
        for n in 0..5_i64 {
            let severity = if n % 2 == 0 {
                Severity::High
            } else {
                Severity::Low
            };
            client
                .create_finding()
                .set_parent(&parent)
                .set_finding_id(format!("f{n}"))
                .set_finding(
                    Finding::new()
                        .set_category("Reverse Shell")
                        .set_resource_name("//example.com/app")
                        .set_state(State::Active)
                        .set_severity(severity)
                        .set_event_time(google_cloud_wkt::Timestamp::new(1_700_000_000 + n, 0)?),
                )
                .send()
                .await?;
        }
        Ok(Self { client, parent })
    }

    fn finding(&self, n: u32) -> String {
        format!("{}/findings/f{n}", self.parent)
    }
}

fn ensure(holds: bool, what: &str) -> Outcome {
    if holds { Ok(()) } else { Err(what.into()) }
}

async fn lists_filters_and_pages() -> Outcome {
    let at = Fixture::new("list").await?;
    let mut items = at
        .client
        .list_findings()
        .set_parent(&at.parent)
        .set_filter("severity=\"HIGH\"")
        .set_order_by("event_time desc")
        .set_page_size(2)
        .by_item();
    let mut names = Vec::new();
    while let Some(item) = items.next().await {
        names.push(item?.finding.unwrap_or_default().name);
    }
    ensure(
        names == [at.finding(4), at.finding(2), at.finding(0)],
        &format!("listed {names:?}"),
    )
}

async fn groups() -> Outcome {
    let at = Fixture::new("group").await?;
    let groups = at
        .client
        .group_findings()
        .set_parent(&at.parent)
        .set_group_by("severity")
        .send()
        .await?;
    let counts: Vec<i64> = groups
        .group_by_results
        .iter()
        .map(|group| group.count)
        .collect();
    ensure(
        counts == [3, 2] && groups.total_size == 2,
        &format!("{groups:?}"),
    )
}

async fn updates() -> Outcome {
    let at = Fixture::new("update").await?;
    let updated = at
        .client
        .update_finding()
        .set_finding(
            Finding::new()
                .set_name(at.finding(0))
                .set_severity(Severity::Critical)
                .set_description("d"),
        )
        .set_update_mask(FieldMask::default().set_paths(["severity"]))
        .send()
        .await?;
    ensure(
        updated.severity == Severity::Critical && updated.description.is_empty(),
        &format!("{updated:?}"),
    )
}

async fn sets_state_and_mute() -> Outcome {
    let at = Fixture::new("state").await?;
    let name = at.finding(1);
    let inactive = at
        .client
        .set_finding_state()
        .set_name(&name)
        .set_state(State::Inactive)
        .send()
        .await?;
    ensure(inactive.state == State::Inactive, "still active")?;
    let muted = at
        .client
        .set_mute()
        .set_name(&name)
        .set_mute(Mute::Muted)
        .send()
        .await?;
    ensure(
        muted.mute == Mute::Muted && muted.mute_update_time.is_some(),
        &format!("{muted:?}"),
    )
}

async fn marks_and_links_tickets() -> Outcome {
    let at = Fixture::new("marks").await?;
    let marks = at
        .client
        .update_security_marks()
        .set_security_marks(
            SecurityMarks::new()
                .set_name(format!("{}/securityMarks", at.finding(2)))
                .set_marks([("team", "red")]),
        )
        .send()
        .await?;
    ensure(
        marks.marks.get("team").is_some_and(|team| team == "red"),
        &format!("{marks:?}"),
    )?;
    let ticket = at
        .client
        .update_external_system()
        .set_external_system(
            ExternalSystem::new()
                .set_name(format!("{}/externalSystems/jira", at.finding(2)))
                .set_external_uid("J-1"),
        )
        .send()
        .await?;
    ensure(ticket.external_uid == "J-1", &format!("{ticket:?}"))
}

async fn configures_mute_rules() -> Outcome {
    let at = Fixture::new("rules").await?;
    let id = format!("rust-{}", std::process::id());
    let made = at
        .client
        .create_mute_config()
        .set_parent(GLOBAL)
        .set_mute_config_id(&id)
        .set_mute_config(
            MuteConfig::new()
                .set_filter("category=\"Nothing of this name\"")
                .set_type(MuteConfigType::Dynamic),
        )
        .send()
        .await?;
    let changed = at
        .client
        .update_mute_config()
        .set_mute_config(MuteConfig::new().set_name(&made.name).set_description("d"))
        .set_update_mask(FieldMask::default().set_paths(["description"]))
        .send()
        .await?;
    ensure(
        changed.description == "d" && changed.filter == made.filter,
        &format!("{changed:?}"),
    )?;
    let mut rules = at.client.list_mute_configs().set_parent(GLOBAL).by_item();
    let mut found = false;
    while let Some(rule) = rules.next().await {
        found |= rule?.name == made.name;
    }
    ensure(found, "not listed")?;
    at.client
        .delete_mute_config()
        .set_name(&made.name)
        .send()
        .await?;
    ensure(
        at.client
            .get_mute_config()
            .set_name(&made.name)
            .send()
            .await
            .is_err(),
        "still there",
    )
}

async fn configures_notifications() -> Outcome {
    let client = client(&std::env::var("HULLWATCH_TOKEN")?).await?;
    let made = client
        .create_notification_config()
        .set_parent(GLOBAL)
        .set_config_id(format!("rust-{}", std::process::id()))
        .set_notification_config(
            NotificationConfig::new()
                .set_pubsub_topic("projects/p/topics/t")
                .set_streaming_config(StreamingConfig::new().set_filter("state=\"ACTIVE\"")),
        )
        .send()
        .await?;
    let read = client
        .get_notification_config()
        .set_name(&made.name)
        .send()
        .await?;
    ensure(read == made, &format!("{read:?}"))?;
    client
        .delete_notification_config()
        .set_name(&made.name)
        .send()
        .await?;
    Ok(())
}

async fn mutes_in_bulk() -> Outcome {
    let at = Fixture::new("bulk").await?;
    let filter = format!("parent=\"{}\" AND severity=\"LOW\"", at.parent);
    at.client
        .bulk_mute_findings()
        .set_parent(ORGANIZATION)
        .set_filter(filter)
        .set_mute_state(MuteState::Muted)
        .poller()
        .until_done()
        .await?;
    let muted = at
        .client
        .list_findings()
        .set_parent(&at.parent)
        .set_filter("mute=\"MUTED\"")
        .send()
        .await?;
    ensure(
        muted.total_size == 2,
        &format!("{} muted", muted.total_size),
    )
}

async fn tells_mistakes_apart() -> Outcome {
    let at = Fixture::new("mistakes").await?;
    let code = |error: google_cloud_gax::error::Error| {
        error.status().map(|status| status.code.name().to_owned())
    };
    let wrong = at
        .client
        .list_findings()
        .set_parent(&at.parent)
        .set_filter("severity=")
        .send()
        .await;
    ensure(
        wrong.map_err(code).err().flatten().as_deref() == Some("INVALID_ARGUMENT"),
        "bad filter",
    )?;
    let missing = at
        .client
        .set_mute()
        .set_name(at.finding(9))
        .set_mute(Mute::Muted)
        .send()
        .await;
    ensure(
        missing.map_err(code).err().flatten().as_deref() == Some("NOT_FOUND"),
        "missing finding",
    )?;
    let stranger = client("nobody")
        .await?
        .list_sources()
        .set_parent(ORGANIZATION)
        .send()
        .await;
    ensure(
        stranger.map_err(code).err().flatten().as_deref() == Some("UNAUTHENTICATED"),
        "stranger",
    )
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut passed = 0;
    let mut failed = 0;
    let mut report = |name: &str, outcome: Outcome| match outcome {
        Ok(()) => {
            passed += 1;
            println!("ok    rust {name}");
        }
        Err(error) => {
            failed += 1;
            println!("FAIL  rust {name}: {error:?}");
        }
    };
    report("lists, filters and pages", lists_filters_and_pages().await);
    report("groups", groups().await);
    report("updates", updates().await);
    report("sets state and mute", sets_state_and_mute().await);
    report("marks and links tickets", marks_and_links_tickets().await);
    report("configures mute rules", configures_mute_rules().await);
    report("configures notifications", configures_notifications().await);
    report("mutes in bulk", mutes_in_bulk().await);
    report("tells mistakes apart", tells_mistakes_apart().await);
    println!("{passed} passed, {failed} failed");
    std::process::exit(i32::from(failed > 0));
}
