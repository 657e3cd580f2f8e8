//! The declaration of a detector: everything about it that is not its logic.

use model::{
    detection::Detection,
    enriched::{EnrichedEvent, EventKind},
    finding::{FindingClass, Severity},
};

use crate::{attack::Attack, simulation::Simulation};

/// Judges events. A plain function of that shape is a detector too.
pub trait Detector: Send {
    /// Judges one event of a kind listed in [`Spec::consumes`], and adds what it found to `out`.
    fn on_event(&mut self, event: &EnrichedEvent, out: &mut Vec<Detection>);
}

impl<F: FnMut(&EnrichedEvent, &mut Vec<Detection>) + Send> Detector for F {
    fn on_event(&mut self, event: &EnrichedEvent, out: &mut Vec<Detection>) {
        self(event, out);
    }
}

/// A detector's declaration. The catalogue, its page of documentation, the command line's table and the finding's constant
/// fields all come from here.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// Unique and stable: the observed behavior in snake case, as SCC titles it.
    pub id: &'static str,
    /// `Finding.category`: SCC's display name, letter for letter.
    pub category: &'static str,
    /// `Finding.moduleName`.
    pub module_name: &'static str,
    /// Severity, unless the detection or the settings say otherwise.
    pub severity: Severity,
    /// Threat, or an error of the watch itself.
    pub finding_class: FindingClass,
    /// ATT&CK. `None` when the finding is about the watch and not about an attacker.
    pub attack: Option<Attack>,
    /// The events it wants to see.
    pub consumes: &'static [EventKind],
    /// Whether it runs when the settings do not name it.
    pub enabled_by_default: bool,
    /// How settled it is.
    pub stage: Stage,
    /// `Finding.nextSteps`: what to do, one step each.
    pub next_steps: &'static [&'static str],
    /// The harmless act that must raise it.
    pub simulation: Simulation,
    /// Its source file; the module comment at the top is its page of documentation.
    pub source: &'static str,
    /// Makes one, with a state of its own.
    pub build: fn() -> Box<dyn Detector>,
}

/// Life cycle of a detector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// May still change what it finds and how it is called.
    Preview,
    /// Settled.
    Stable,
    /// Will be removed; its id is never used again.
    Deprecated,
}
