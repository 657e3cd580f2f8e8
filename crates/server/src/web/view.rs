//! What the findings page is asked to show, as its address says: query, order, columns, page.

use std::fmt::Write as _;

/// The query when the address has none.
pub(crate) const DEFAULT_QUERY: &str = r#"state="ACTIVE" AND NOT mute="MUTED""#;

/// Findings on a page, to choose from; the first is the default.
pub(crate) const PAGE_SIZES: &[usize] = &[50, 100, 250];

/// A column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    Category,
    Severity,
    Resource,
    Container,
    Image,
    EventTime,
    CreateTime,
    FirstSeen,
    Count,
    State,
    Mute,
    Class,
    Detector,
    Techniques,
    Marks,
}

impl Column {
    pub(crate) const ALL: &[Self] = &[
        Self::Category,
        Self::Severity,
        Self::Resource,
        Self::Container,
        Self::Image,
        Self::EventTime,
        Self::CreateTime,
        Self::FirstSeen,
        Self::Count,
        Self::State,
        Self::Mute,
        Self::Class,
        Self::Detector,
        Self::Techniques,
        Self::Marks,
    ];

    pub(crate) const DEFAULT: &[Self] = &[
        Self::Category,
        Self::Severity,
        Self::Resource,
        Self::Container,
        Self::EventTime,
        Self::Count,
        Self::State,
    ];

    /// Name in the address.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Category => "category",
            Self::Severity => "severity",
            Self::Resource => "resource",
            Self::Container => "container",
            Self::Image => "image",
            Self::EventTime => "event_time",
            Self::CreateTime => "create_time",
            Self::FirstSeen => "first_seen",
            Self::Count => "count",
            Self::State => "state",
            Self::Mute => "mute",
            Self::Class => "class",
            Self::Detector => "detector",
            Self::Techniques => "techniques",
            Self::Marks => "marks",
        }
    }

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Category => "Category",
            Self::Severity => "Severity",
            Self::Resource => "Resource",
            Self::Container => "Container",
            Self::Image => "Image",
            Self::EventTime => "Event time (UTC)",
            Self::CreateTime => "Create time (UTC)",
            Self::FirstSeen => "First seen (UTC)",
            Self::Count => "Count",
            Self::State => "State",
            Self::Mute => "Mute",
            Self::Class => "Class",
            Self::Detector => "Detector",
            Self::Techniques => "ATT&CK",
            Self::Marks => "Security marks",
        }
    }

    /// Field that the store can order by.
    pub(crate) fn order_field(self) -> Option<&'static str> {
        match self {
            Self::Category => Some("category"),
            Self::Severity => Some("severity"),
            Self::Resource => Some("resource_name"),
            Self::EventTime => Some("event_time"),
            Self::CreateTime => Some("create_time"),
            Self::State => Some("state"),
            Self::Mute => Some("mute"),
            _ => None,
        }
    }
}

/// What the address asks for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct View {
    /// Filter. Empty for all findings.
    pub(crate) q: String,
    /// SCC order. Empty for the newest first.
    pub(crate) order: String,
    /// In the order of [`Column::ALL`].
    pub(crate) columns: Vec<Column>,
    /// Findings on a page.
    pub(crate) n: usize,
    /// Page token. Empty for the first page.
    pub(crate) page: String,
    /// Bounds given by the form over the histogram, to be put into the query.
    pub(crate) from: Option<String>,
    pub(crate) to: Option<String>,
}

impl View {
    /// Reads the parameters of an address; what is unknown or out of range becomes the default.
    pub(crate) fn parse(query: &str) -> Self {
        let mut view = Self {
            q: DEFAULT_QUERY.to_owned(),
            order: String::new(),
            columns: Vec::new(),
            n: PAGE_SIZES.first().copied().unwrap_or_default(),
            page: String::new(),
            from: None,
            to: None,
        };
        let mut chosen = Vec::new();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*key {
                "q" => view.q = value.trim().to_owned(),
                "order" => view.order = value.into_owned(),
                "col" => chosen.extend(value.split(',').map(str::to_owned)),
                "n" => {
                    view.n = value
                        .parse()
                        .ok()
                        .filter(|n| PAGE_SIZES.contains(n))
                        .unwrap_or(view.n)
                }
                "page" => view.page = value.into_owned(),
                "from" => view.from = Some(value.into_owned()),
                "to" => view.to = Some(value.into_owned()),
                _ => {}
            }
        }
        let is_chosen = |column: &Column| {
            *column == Column::Category || chosen.iter().any(|key| key == column.key())
        };
        view.columns = if chosen.is_empty() {
            Column::DEFAULT.to_vec()
        } else {
            Column::ALL.iter().copied().filter(is_chosen).collect()
        };
        view
    }

    /// The address of this view.
    pub(crate) fn href(&self) -> String {
        self.at("/findings", &self.q, &self.order, &self.page)
    }

    pub(crate) fn with_query(&self, q: &str) -> String {
        self.at("/findings", q, &self.order, "")
    }

    pub(crate) fn with_order(&self, order: &str) -> String {
        self.at("/findings", &self.q, order, "")
    }

    pub(crate) fn with_page(&self, page: &str) -> String {
        self.at("/findings", &self.q, &self.order, page)
    }

    /// Everything that matches, as a file.
    pub(crate) fn export(&self, kind: &str) -> String {
        self.at(
            &format!("/findings/export.{kind}"),
            &self.q,
            &self.order,
            "",
        )
    }

    /// The same query with the default columns.
    pub(crate) fn default_columns(&self) -> String {
        let plain = Self {
            columns: Column::DEFAULT.to_vec(),
            ..self.clone()
        };
        plain.href()
    }

    /// What a form has to send along besides the query.
    pub(crate) fn hidden_fields(&self) -> Vec<(&'static str, String)> {
        let mut fields = Vec::new();
        if !self.order.is_empty() {
            fields.push(("order", self.order.clone()));
        }
        if self.columns != Column::DEFAULT {
            fields.push(("col", self.column_keys()));
        }
        if PAGE_SIZES.first() != Some(&self.n) {
            fields.push(("n", self.n.to_string()));
        }
        fields
    }

    fn column_keys(&self) -> String {
        let keys: Vec<&str> = self.columns.iter().map(|column| column.key()).collect();
        keys.join(",")
    }

    fn at(&self, path: &str, q: &str, order: &str, page: &str) -> String {
        let mut out = String::from(path);
        let mut first = true;
        let mut add = |key: &str, value: &str| {
            let _ = write!(out, "{}{key}=", if first { '?' } else { '&' });
            out.extend(form_urlencoded::byte_serialize(value.as_bytes()));
            first = false;
        };
        if q != DEFAULT_QUERY {
            add("q", q);
        }
        if !order.is_empty() {
            add("order", order);
        }
        for (key, value) in self.hidden_fields() {
            if key != "order" {
                add(key, &value);
            }
        }
        if !page.is_empty() {
            add("page", page);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_holds_the_whole_view() {
        for query in [
            "",
            "q=",
            "q=category%3D%22a+%26+b%22&order=event_time+desc&col=category%2Cseverity%2Cimage&n=100&page=abc",
        ] {
            let view = View::parse(query);
            let address = view.href();
            let again = address.split_once('?').map_or("", |(_, query)| query);
            assert_eq!(View::parse(again), view, "{address}");
        }
    }

    #[test]
    fn what_is_wrong_becomes_the_default() {
        let view = View::parse("n=1000000&col=nonsense&order=x");
        assert_eq!(
            (view.n, view.columns.as_slice()),
            (PAGE_SIZES[0], [Column::Category].as_slice())
        );
        assert_eq!(view.q, DEFAULT_QUERY);
    }
}
