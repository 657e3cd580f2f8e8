//! Resource names: the parts of a finding's name and of the parent of a query.

use crate::Error;

/// `organizations/1/sources/2/locations/global/findings/abc`, taken apart. A missing location is `global`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FindingName {
    /// What it is under.
    pub parent: SourceName,
    /// The last segment.
    pub key: String,
}

/// `organizations/1/sources/2/locations/global`, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceName {
    /// `organizations/O`, `folders/F` or `projects/P`.
    pub scope: String,
    /// Source id; `-` for all.
    pub source: String,
    /// Location; `global` when not given, `-` for all.
    pub location: String,
}

impl FindingName {
    /// Reads a name with or without location.
    pub fn parse(name: &str) -> Result<Self, Error> {
        let bad = |why: &str| Error::invalid("name", format!("{name:?} {why}"));
        let (parent, key) = name
            .rsplit_once("/findings/")
            .ok_or_else(|| bad("is not the name of a finding"))?;
        if key.is_empty() || key.len() > 32 || !key.bytes().all(|byte| byte.is_ascii_alphanumeric())
        {
            return Err(bad("must end in 1 to 32 letters and digits"));
        }
        let parent = SourceName::parse(parent)?;
        if parent.source == "-" || parent.location == "-" {
            return Err(bad("must name one source and location"));
        }
        Ok(Self {
            parent,
            key: key.to_owned(),
        })
    }
}

impl SourceName {
    /// Reads `SCOPE/sources/S` with or without `/locations/L`.
    pub fn parse(name: &str) -> Result<Self, Error> {
        let parts: Vec<&str> = name.split('/').collect();
        let (scope, id, source, location) = match *parts.as_slice() {
            [scope, id, "sources", source] => (scope, id, source, "global"),
            [scope, id, "sources", source, "locations", location] => (scope, id, source, location),
            _ => {
                return Err(Error::invalid(
                    "parent",
                    format!("{name:?} is not of the form organizations/O/sources/S/locations/L"),
                ));
            }
        };
        let known = matches!(scope, "organizations" | "folders" | "projects");
        if !known || [id, source, location].iter().any(|part| !is_segment(part)) {
            return Err(Error::invalid(
                "parent",
                format!("{name:?} is not under an organization, folder or project"),
            ));
        }
        Ok(Self {
            scope: format!("{scope}/{id}"),
            source: source.to_owned(),
            location: location.to_owned(),
        })
    }
}

impl std::fmt::Display for SourceName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}/sources/{}/locations/{}",
            self.scope, self.source, self.location
        )
    }
}

impl std::fmt::Display for FindingName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/findings/{}", self.parent, self.key)
    }
}

/// The parent that stands for all findings of the organization, folder or project and the location that a resource such as
/// `projects/p/locations/global/muteConfigs/x` is under. A missing location is `global`.
pub(crate) fn all_sources_of(resource: &str) -> String {
    let mut parts = resource.split('/');
    let scope: Vec<&str> = parts.by_ref().take(2).collect();
    let location = match (parts.next(), parts.next()) {
        (Some("locations"), Some(location)) => location,
        _ => "global",
    };
    format!("{}/sources/-/locations/{location}", scope.join("/"))
}

fn is_segment(part: &str) -> bool {
    !part.is_empty()
        && part.len() <= 128
        && part
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte))
}
