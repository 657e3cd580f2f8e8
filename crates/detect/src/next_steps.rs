//! Steps of response that several detectors share.

pub(crate) const OTHER_FINDINGS: &str = "Look for other findings of the same container at a similar time: the nearest ones are listed in this finding, under Investigation.";
pub(crate) const SETTINGS: &str = "Review the container's settings (user, privileges, capabilities, mounts), a snapshot of which is part of this finding.";
pub(crate) const LOGS: &str =
    "Read the container's logs around the event time; the last lines are part of this finding.";
pub(crate) const VIRUSTOTAL: &str = "Check the SHA-256 through the VirusTotal link, and weigh who published the indicator and when.";
pub(crate) const EVIDENCE: &str =
    "Save evidence before you stop anything: the file, the container's writable layer, its logs.";
pub(crate) const REDEPLOY: &str = "Replace the container by a fresh one from a known good image, and find out how the attacker got in before it is exposed again.";
pub(crate) const SECRETS: &str = "Rotate every secret that the container could read.";
