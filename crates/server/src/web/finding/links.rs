//! Related links: what the finding names, ATT&CK's pages of its techniques, and nothing that is not a web address.

use model::finding::Finding;
use serde_json::Value;

use super::evidence::text;
use crate::web::{attack::technique, shown::finding_href};

/// A link.
pub(super) struct Link {
    pub(super) href: String,
    pub(super) label: String,
    /// Host of a link that leads elsewhere.
    pub(super) site: String,
    pub(super) external: bool,
}

pub(super) fn of(finding: &Finding) -> Vec<Link> {
    let mut links = Vec::new();
    let uris = finding.source_properties.get("contextUris");
    let queries = uris
        .and_then(|uris| uris.get("virustotalIndicatorQueryUri"))
        .and_then(Value::as_array);
    for query in queries.into_iter().flatten() {
        let hash = text(query, "url")
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .to_owned();
        links.extend(external(
            &text(query, "url"),
            format!(
                "VirusTotal indicator {}",
                hash.get(..12).unwrap_or_default()
            ),
        ));
    }
    if let Some(attack) = &finding.mitre_attack {
        let techniques = attack
            .primary_techniques
            .iter()
            .chain(&attack.additional_techniques);
        for name in techniques {
            if let Some(technique) = technique(name) {
                links.extend(external(
                    &technique.uri(),
                    format!("ATT&CK {} {}", technique.id, technique.title()),
                ));
            }
        }
    }
    links.extend(external(&finding.external_uri, "External page".to_owned()));
    for (name, system) in &finding.external_systems {
        links.extend(external(
            &text(system, "caseUri"),
            format!("Case in {}", name.rsplit('/').next().unwrap_or_default()),
        ));
    }
    let recent =
        super::evidence::investigation(finding).and_then(|found| found.get("recentFindings"));
    for other in recent
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .take(5)
    {
        links.push(Link {
            href: finding_href(&text(other, "name")),
            label: format!("Before it: {}", text(other, "category")),
            site: String::new(),
            external: false,
        });
    }
    links
}

/// A link out, when it is a web address: a client may have stored `javascript:`.
fn external(url: &str, label: String) -> Option<Link> {
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"))?;
    let site = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if site.is_empty()
        || model::text::escape_terminal(url) != url
        || url.contains([' ', '"', '<', '>'])
    {
        return None;
    }
    Some(Link {
        href: url.to_owned(),
        label,
        site: site.to_owned(),
        external: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_web_addresses_become_links() {
        for bad in [
            "javascript:alert(1)",
            "data:text/html,x",
            "//evil.test",
            "https://",
            "http:///x",
            "https://a\u{202e}b/",
        ] {
            assert!(external(bad, String::new()).is_none(), "{bad}");
        }
        let link = external("https://www.virustotal.com/gui/file/00", String::new()).unwrap();
        assert_eq!(link.site, "www.virustotal.com");
    }
}
