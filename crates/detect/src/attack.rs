//! ATT&CK tactics and techniques, by the names of SCC's enums.

/// Version of ATT&CK that the identifiers are taken from.
pub(crate) const VERSION: &str = "17";

/// What a detector's finding means in ATT&CK's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attack {
    /// `MitreAttack.Tactic`, e.g. `EXECUTION`.
    pub tactic: &'static str,
    /// The techniques it shows by itself. A sub-technique stands beside its parent.
    pub techniques: &'static [Technique],
    /// More tactics that may apply.
    pub additional_tactics: &'static [&'static str],
    /// More techniques that may apply.
    pub additional_techniques: &'static [Technique],
}

/// One technique.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Technique {
    /// `MitreAttack.Technique`, e.g. `NATIVE_API`.
    pub name: &'static str,
    /// ATT&CK's identifier, e.g. `T1106`.
    pub id: &'static str,
}

impl Technique {
    pub(crate) const INGRESS_TOOL_TRANSFER: Self = Self::new("INGRESS_TOOL_TRANSFER", "T1105");
    pub(crate) const NATIVE_API: Self = Self::new("NATIVE_API", "T1106");
    pub(crate) const SHARED_MODULES: Self = Self::new("SHARED_MODULES", "T1129");

    const fn new(name: &'static str, id: &'static str) -> Self {
        Self { name, id }
    }

    /// The technique's page.
    pub fn uri(self) -> String {
        format!(
            "https://attack.mitre.org/techniques/{}/",
            self.id.replace('.', "/")
        )
    }
}

/// A program that was brought in, or came with the image, and ran.
pub(crate) const PROGRAM: Attack = Attack {
    tactic: "EXECUTION",
    techniques: &[Technique::INGRESS_TOOL_TRANSFER, Technique::NATIVE_API],
    additional_tactics: &[],
    additional_techniques: &[],
};

/// A library that was brought in, or came with the image, and was loaded.
pub(crate) const LIBRARY: Attack = Attack {
    tactic: "EXECUTION",
    techniques: &[Technique::INGRESS_TOOL_TRANSFER, Technique::SHARED_MODULES],
    additional_tactics: &[],
    additional_techniques: &[],
};
