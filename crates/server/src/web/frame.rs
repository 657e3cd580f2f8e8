//! What every page has: title, navigation, who is signed in, whether everything is watched.

use super::assets;
use crate::auth::Role;

/// Common part of a page.
pub(crate) struct Frame {
    pub(crate) title: String,
    pub(crate) section: Section,
    /// `None` on pages for those who are not signed in.
    pub(crate) user: Option<User>,
    pub(crate) watch: Watch,
    pub(crate) notice: Option<Notice>,
    pub(crate) style: &'static str,
    pub(crate) script: &'static str,
    pub(crate) icon: &'static str,
    pub(crate) version: &'static str,
}

/// Which entry of the navigation a page is under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    None,
    Findings,
    Index,
    Coverage,
    Audit,
}

/// Who looks at the page.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) csrf: String,
}

/// Whether everything is watched, in a few words for the head of every page.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    pub(crate) good: bool,
    pub(crate) text: String,
}

/// What just happened, told at the top of the page.
#[derive(Clone, Debug)]
pub(crate) struct Notice {
    pub(crate) good: bool,
    pub(crate) text: String,
}

/// An entry of the navigation.
pub(crate) struct NavLink {
    pub(crate) href: &'static str,
    pub(crate) label: &'static str,
    pub(crate) current: bool,
}

impl Frame {
    pub(crate) fn new(
        title: impl Into<String>,
        section: Section,
        user: Option<User>,
        watch: Watch,
    ) -> Self {
        Self {
            title: title.into(),
            section,
            user,
            watch,
            notice: None,
            style: assets::href("hullwatch.css"),
            script: assets::href("hullwatch.js"),
            icon: assets::href("icon.svg"),
            version: env!("CARGO_PKG_VERSION"),
        }
    }

    pub(crate) fn nav(&self) -> Vec<NavLink> {
        let mut pages = vec![
            ("/findings", "Findings", Section::Findings),
            ("/index", "Threat findings index", Section::Index),
            ("/coverage", "Coverage", Section::Coverage),
        ];
        if self
            .user
            .as_ref()
            .is_some_and(|user| user.role == Role::Admin)
        {
            pages.push(("/audit", "Audit log", Section::Audit));
        }
        let links = pages.into_iter().map(|(href, label, section)| NavLink {
            href,
            label,
            current: section == self.section,
        });
        links.collect()
    }
}
