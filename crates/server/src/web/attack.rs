//! ATT&CK as Security Command Center's enums know it: tactics in the order of the matrix, techniques with their tactics.
//!
//! Names: `google.cloud.securitycenter.v2.MitreAttack`. Which technique serves which tactic: ATT&CK for Enterprise, version 17.

const RECONNAISSANCE: &str = "RECONNAISSANCE";
const RESOURCE_DEVELOPMENT: &str = "RESOURCE_DEVELOPMENT";
const INITIAL_ACCESS: &str = "INITIAL_ACCESS";
const EXECUTION: &str = "EXECUTION";
const PERSISTENCE: &str = "PERSISTENCE";
const PRIVILEGE_ESCALATION: &str = "PRIVILEGE_ESCALATION";
const DEFENSE_EVASION: &str = "DEFENSE_EVASION";
const CREDENTIAL_ACCESS: &str = "CREDENTIAL_ACCESS";
const DISCOVERY: &str = "DISCOVERY";
const LATERAL_MOVEMENT: &str = "LATERAL_MOVEMENT";
const COLLECTION: &str = "COLLECTION";
const COMMAND_AND_CONTROL: &str = "COMMAND_AND_CONTROL";
const EXFILTRATION: &str = "EXFILTRATION";
const IMPACT: &str = "IMPACT";

/// Tactics from left to right: name and identifier.
pub(crate) const TACTICS: &[(&str, &str)] = &[
    (RECONNAISSANCE, "TA0043"),
    (RESOURCE_DEVELOPMENT, "TA0042"),
    (INITIAL_ACCESS, "TA0001"),
    (EXECUTION, "TA0002"),
    (PERSISTENCE, "TA0003"),
    (PRIVILEGE_ESCALATION, "TA0004"),
    (DEFENSE_EVASION, "TA0005"),
    (CREDENTIAL_ACCESS, "TA0006"),
    (DISCOVERY, "TA0007"),
    (LATERAL_MOVEMENT, "TA0008"),
    (COLLECTION, "TA0009"),
    (COMMAND_AND_CONTROL, "TA0011"),
    (EXFILTRATION, "TA0010"),
    (IMPACT, "TA0040"),
];

/// Techniques: identifier, name, tactics.
pub(crate) const TECHNIQUES: &[(&str, &str, &[&str])] = &[
    ("T1001", "DATA_OBFUSCATION", &[COMMAND_AND_CONTROL]),
    (
        "T1001.002",
        "DATA_OBFUSCATION_STEGANOGRAPHY",
        &[COMMAND_AND_CONTROL],
    ),
    ("T1003", "OS_CREDENTIAL_DUMPING", &[CREDENTIAL_ACCESS]),
    (
        "T1003.007",
        "OS_CREDENTIAL_DUMPING_PROC_FILESYSTEM",
        &[CREDENTIAL_ACCESS],
    ),
    (
        "T1003.008",
        "OS_CREDENTIAL_DUMPING_ETC_PASSWORD_AND_ETC_SHADOW",
        &[CREDENTIAL_ACCESS],
    ),
    ("T1005", "DATA_FROM_LOCAL_SYSTEM", &[COLLECTION]),
    ("T1020", "AUTOMATED_EXFILTRATION", &[EXFILTRATION]),
    ("T1027", "OBFUSCATED_FILES_OR_INFO", &[DEFENSE_EVASION]),
    ("T1027.003", "STEGANOGRAPHY", &[DEFENSE_EVASION]),
    ("T1027.004", "COMPILE_AFTER_DELIVERY", &[DEFENSE_EVASION]),
    ("T1027.010", "COMMAND_OBFUSCATION", &[DEFENSE_EVASION]),
    ("T1029", "SCHEDULED_TRANSFER", &[EXFILTRATION]),
    ("T1033", "SYSTEM_OWNER_USER_DISCOVERY", &[DISCOVERY]),
    ("T1036", "MASQUERADING", &[DEFENSE_EVASION]),
    (
        "T1036.005",
        "MATCH_LEGITIMATE_NAME_OR_LOCATION",
        &[DEFENSE_EVASION],
    ),
    (
        "T1037",
        "BOOT_OR_LOGON_INITIALIZATION_SCRIPTS",
        &[PERSISTENCE, PRIVILEGE_ESCALATION],
    ),
    (
        "T1037.005",
        "STARTUP_ITEMS",
        &[PERSISTENCE, PRIVILEGE_ESCALATION],
    ),
    ("T1046", "NETWORK_SERVICE_DISCOVERY", &[DISCOVERY]),
    (
        "T1053",
        "SCHEDULED_TASK_JOB",
        &[EXECUTION, PERSISTENCE, PRIVILEGE_ESCALATION],
    ),
    (
        "T1053.003",
        "SCHEDULED_TASK_JOB_CRON",
        &[EXECUTION, PERSISTENCE, PRIVILEGE_ESCALATION],
    ),
    (
        "T1053.007",
        "CONTAINER_ORCHESTRATION_JOB",
        &[EXECUTION, PERSISTENCE, PRIVILEGE_ESCALATION],
    ),
    (
        "T1055",
        "PROCESS_INJECTION",
        &[DEFENSE_EVASION, PRIVILEGE_ESCALATION],
    ),
    ("T1056", "INPUT_CAPTURE", &[COLLECTION, CREDENTIAL_ACCESS]),
    (
        "T1056.001",
        "INPUT_CAPTURE_KEYLOGGING",
        &[COLLECTION, CREDENTIAL_ACCESS],
    ),
    ("T1057", "PROCESS_DISCOVERY", &[DISCOVERY]),
    ("T1059", "COMMAND_AND_SCRIPTING_INTERPRETER", &[EXECUTION]),
    ("T1059.004", "UNIX_SHELL", &[EXECUTION]),
    ("T1059.006", "PYTHON", &[EXECUTION]),
    (
        "T1068",
        "EXPLOITATION_FOR_PRIVILEGE_ESCALATION",
        &[PRIVILEGE_ESCALATION],
    ),
    ("T1069", "PERMISSION_GROUPS_DISCOVERY", &[DISCOVERY]),
    ("T1069.003", "CLOUD_GROUPS", &[DISCOVERY]),
    ("T1070", "INDICATOR_REMOVAL", &[DEFENSE_EVASION]),
    (
        "T1070.002",
        "INDICATOR_REMOVAL_CLEAR_LINUX_OR_MAC_SYSTEM_LOGS",
        &[DEFENSE_EVASION],
    ),
    (
        "T1070.003",
        "INDICATOR_REMOVAL_CLEAR_COMMAND_HISTORY",
        &[DEFENSE_EVASION],
    ),
    (
        "T1070.004",
        "INDICATOR_REMOVAL_FILE_DELETION",
        &[DEFENSE_EVASION],
    ),
    (
        "T1070.006",
        "INDICATOR_REMOVAL_TIMESTOMP",
        &[DEFENSE_EVASION],
    ),
    (
        "T1070.008",
        "INDICATOR_REMOVAL_CLEAR_MAILBOX_DATA",
        &[DEFENSE_EVASION],
    ),
    (
        "T1071",
        "APPLICATION_LAYER_PROTOCOL",
        &[COMMAND_AND_CONTROL],
    ),
    ("T1071.004", "DNS", &[COMMAND_AND_CONTROL]),
    (
        "T1072",
        "SOFTWARE_DEPLOYMENT_TOOLS",
        &[EXECUTION, LATERAL_MOVEMENT],
    ),
    (
        "T1078",
        "VALID_ACCOUNTS",
        &[
            DEFENSE_EVASION,
            PERSISTENCE,
            PRIVILEGE_ESCALATION,
            INITIAL_ACCESS,
        ],
    ),
    (
        "T1078.001",
        "DEFAULT_ACCOUNTS",
        &[
            DEFENSE_EVASION,
            PERSISTENCE,
            PRIVILEGE_ESCALATION,
            INITIAL_ACCESS,
        ],
    ),
    (
        "T1078.003",
        "LOCAL_ACCOUNTS",
        &[
            DEFENSE_EVASION,
            PERSISTENCE,
            PRIVILEGE_ESCALATION,
            INITIAL_ACCESS,
        ],
    ),
    (
        "T1078.004",
        "CLOUD_ACCOUNTS",
        &[
            DEFENSE_EVASION,
            PERSISTENCE,
            PRIVILEGE_ESCALATION,
            INITIAL_ACCESS,
        ],
    ),
    ("T1083", "FILE_AND_DIRECTORY_DISCOVERY", &[DISCOVERY]),
    ("T1087.001", "ACCOUNT_DISCOVERY_LOCAL_ACCOUNT", &[DISCOVERY]),
    ("T1090", "PROXY", &[COMMAND_AND_CONTROL]),
    ("T1090.002", "EXTERNAL_PROXY", &[COMMAND_AND_CONTROL]),
    ("T1090.003", "MULTI_HOP_PROXY", &[COMMAND_AND_CONTROL]),
    (
        "T1098",
        "ACCOUNT_MANIPULATION",
        &[PERSISTENCE, PRIVILEGE_ESCALATION],
    ),
    (
        "T1098.001",
        "ADDITIONAL_CLOUD_CREDENTIALS",
        &[PERSISTENCE, PRIVILEGE_ESCALATION],
    ),
    (
        "T1098.003",
        "ADDITIONAL_CLOUD_ROLES",
        &[PERSISTENCE, PRIVILEGE_ESCALATION],
    ),
    (
        "T1098.004",
        "SSH_AUTHORIZED_KEYS",
        &[PERSISTENCE, PRIVILEGE_ESCALATION],
    ),
    (
        "T1098.006",
        "ADDITIONAL_CONTAINER_CLUSTER_ROLES",
        &[PERSISTENCE, PRIVILEGE_ESCALATION],
    ),
    ("T1104", "MULTI_STAGE_CHANNELS", &[COMMAND_AND_CONTROL]),
    ("T1105", "INGRESS_TOOL_TRANSFER", &[COMMAND_AND_CONTROL]),
    ("T1106", "NATIVE_API", &[EXECUTION]),
    ("T1110", "BRUTE_FORCE", &[CREDENTIAL_ACCESS]),
    ("T1119", "AUTOMATED_COLLECTION", &[COLLECTION]),
    ("T1129", "SHARED_MODULES", &[EXECUTION]),
    ("T1132", "DATA_ENCODING", &[COMMAND_AND_CONTROL]),
    ("T1132.001", "STANDARD_ENCODING", &[COMMAND_AND_CONTROL]),
    (
        "T1134",
        "ACCESS_TOKEN_MANIPULATION",
        &[DEFENSE_EVASION, PRIVILEGE_ESCALATION],
    ),
    (
        "T1134.001",
        "TOKEN_IMPERSONATION_OR_THEFT",
        &[DEFENSE_EVASION, PRIVILEGE_ESCALATION],
    ),
    ("T1136", "CREATE_ACCOUNT", &[PERSISTENCE]),
    ("T1136.001", "LOCAL_ACCOUNT", &[PERSISTENCE]),
    (
        "T1140",
        "DEOBFUSCATE_DECODE_FILES_OR_INFO",
        &[DEFENSE_EVASION],
    ),
    (
        "T1190",
        "EXPLOIT_PUBLIC_FACING_APPLICATION",
        &[INITIAL_ACCESS],
    ),
    ("T1195", "SUPPLY_CHAIN_COMPROMISE", &[INITIAL_ACCESS]),
    (
        "T1195.001",
        "COMPROMISE_SOFTWARE_DEPENDENCIES_AND_DEVELOPMENT_TOOLS",
        &[INITIAL_ACCESS],
    ),
    ("T1203", "EXPLOITATION_FOR_CLIENT_EXECUTION", &[EXECUTION]),
    ("T1204", "USER_EXECUTION", &[EXECUTION]),
    (
        "T1222.002",
        "LINUX_AND_MAC_FILE_AND_DIRECTORY_PERMISSIONS_MODIFICATION",
        &[DEFENSE_EVASION],
    ),
    (
        "T1484",
        "DOMAIN_POLICY_MODIFICATION",
        &[DEFENSE_EVASION, PRIVILEGE_ESCALATION],
    ),
    ("T1485", "DATA_DESTRUCTION", &[IMPACT]),
    ("T1486", "DATA_ENCRYPTED_FOR_IMPACT", &[IMPACT]),
    ("T1489", "SERVICE_STOP", &[IMPACT]),
    ("T1490", "INHIBIT_SYSTEM_RECOVERY", &[IMPACT]),
    ("T1495", "FIRMWARE_CORRUPTION", &[IMPACT]),
    ("T1496", "RESOURCE_HIJACKING", &[IMPACT]),
    ("T1498", "NETWORK_DENIAL_OF_SERVICE", &[IMPACT]),
    ("T1526", "CLOUD_SERVICE_DISCOVERY", &[DISCOVERY]),
    (
        "T1528",
        "STEAL_APPLICATION_ACCESS_TOKEN",
        &[CREDENTIAL_ACCESS],
    ),
    ("T1531", "ACCOUNT_ACCESS_REMOVAL", &[IMPACT]),
    ("T1537", "TRANSFER_DATA_TO_CLOUD_ACCOUNT", &[EXFILTRATION]),
    ("T1539", "STEAL_WEB_SESSION_COOKIE", &[CREDENTIAL_ACCESS]),
    (
        "T1543",
        "CREATE_OR_MODIFY_SYSTEM_PROCESS",
        &[PERSISTENCE, PRIVILEGE_ESCALATION],
    ),
    (
        "T1546",
        "EVENT_TRIGGERED_EXECUTION",
        &[PRIVILEGE_ESCALATION, PERSISTENCE],
    ),
    (
        "T1547",
        "BOOT_OR_LOGON_AUTOSTART_EXECUTION",
        &[PERSISTENCE, PRIVILEGE_ESCALATION],
    ),
    (
        "T1547.006",
        "KERNEL_MODULES_AND_EXTENSIONS",
        &[PERSISTENCE, PRIVILEGE_ESCALATION],
    ),
    (
        "T1547.009",
        "SHORTCUT_MODIFICATION",
        &[PERSISTENCE, PRIVILEGE_ESCALATION],
    ),
    (
        "T1548",
        "ABUSE_ELEVATION_CONTROL_MECHANISM",
        &[PRIVILEGE_ESCALATION, DEFENSE_EVASION],
    ),
    (
        "T1548.001",
        "ABUSE_ELEVATION_CONTROL_MECHANISM_SETUID_AND_SETGID",
        &[PRIVILEGE_ESCALATION, DEFENSE_EVASION],
    ),
    (
        "T1548.003",
        "ABUSE_ELEVATION_CONTROL_MECHANISM_SUDO_AND_SUDO_CACHING",
        &[PRIVILEGE_ESCALATION, DEFENSE_EVASION],
    ),
    ("T1552", "UNSECURED_CREDENTIALS", &[CREDENTIAL_ACCESS]),
    ("T1552.001", "CREDENTIALS_IN_FILES", &[CREDENTIAL_ACCESS]),
    ("T1552.003", "BASH_HISTORY", &[CREDENTIAL_ACCESS]),
    ("T1552.004", "PRIVATE_KEYS", &[CREDENTIAL_ACCESS]),
    ("T1553", "SUBVERT_TRUST_CONTROL", &[DEFENSE_EVASION]),
    ("T1553.004", "INSTALL_ROOT_CERTIFICATE", &[DEFENSE_EVASION]),
    ("T1554", "COMPROMISE_HOST_SOFTWARE_BINARY", &[PERSISTENCE]),
    (
        "T1555",
        "CREDENTIALS_FROM_PASSWORD_STORES",
        &[CREDENTIAL_ACCESS],
    ),
    (
        "T1556",
        "MODIFY_AUTHENTICATION_PROCESS",
        &[CREDENTIAL_ACCESS, DEFENSE_EVASION, PERSISTENCE],
    ),
    (
        "T1556.003",
        "PLUGGABLE_AUTHENTICATION_MODULES",
        &[CREDENTIAL_ACCESS, DEFENSE_EVASION, PERSISTENCE],
    ),
    (
        "T1556.006",
        "MULTI_FACTOR_AUTHENTICATION",
        &[CREDENTIAL_ACCESS, DEFENSE_EVASION, PERSISTENCE],
    ),
    ("T1562", "IMPAIR_DEFENSES", &[DEFENSE_EVASION]),
    ("T1562.001", "DISABLE_OR_MODIFY_TOOLS", &[DEFENSE_EVASION]),
    ("T1562.006", "INDICATOR_BLOCKING", &[DEFENSE_EVASION]),
    (
        "T1562.012",
        "DISABLE_OR_MODIFY_LINUX_AUDIT_SYSTEM",
        &[DEFENSE_EVASION],
    ),
    ("T1564", "HIDE_ARTIFACTS", &[DEFENSE_EVASION]),
    (
        "T1564.001",
        "HIDDEN_FILES_AND_DIRECTORIES",
        &[DEFENSE_EVASION],
    ),
    ("T1564.002", "HIDDEN_USERS", &[DEFENSE_EVASION]),
    ("T1567", "EXFILTRATION_OVER_WEB_SERVICE", &[EXFILTRATION]),
    (
        "T1567.002",
        "EXFILTRATION_TO_CLOUD_STORAGE",
        &[EXFILTRATION],
    ),
    ("T1568", "DYNAMIC_RESOLUTION", &[COMMAND_AND_CONTROL]),
    ("T1570", "LATERAL_TOOL_TRANSFER", &[LATERAL_MOVEMENT]),
    (
        "T1574",
        "HIJACK_EXECUTION_FLOW",
        &[PERSISTENCE, PRIVILEGE_ESCALATION, DEFENSE_EVASION],
    ),
    (
        "T1574.006",
        "HIJACK_EXECUTION_FLOW_DYNAMIC_LINKER_HIJACKING",
        &[PERSISTENCE, PRIVILEGE_ESCALATION, DEFENSE_EVASION],
    ),
    (
        "T1578",
        "MODIFY_CLOUD_COMPUTE_INFRASTRUCTURE",
        &[DEFENSE_EVASION],
    ),
    ("T1578.001", "CREATE_SNAPSHOT", &[DEFENSE_EVASION]),
    ("T1580", "CLOUD_INFRASTRUCTURE_DISCOVERY", &[DISCOVERY]),
    ("T1587", "DEVELOP_CAPABILITIES", &[RESOURCE_DEVELOPMENT]),
    (
        "T1587.001",
        "DEVELOP_CAPABILITIES_MALWARE",
        &[RESOURCE_DEVELOPMENT],
    ),
    ("T1588", "OBTAIN_CAPABILITIES", &[RESOURCE_DEVELOPMENT]),
    (
        "T1588.001",
        "OBTAIN_CAPABILITIES_MALWARE",
        &[RESOURCE_DEVELOPMENT],
    ),
    (
        "T1588.006",
        "OBTAIN_CAPABILITIES_VULNERABILITIES",
        &[RESOURCE_DEVELOPMENT],
    ),
    ("T1595", "ACTIVE_SCANNING", &[RECONNAISSANCE]),
    ("T1595.001", "SCANNING_IP_BLOCKS", &[RECONNAISSANCE]),
    ("T1608", "STAGE_CAPABILITIES", &[RESOURCE_DEVELOPMENT]),
    ("T1608.001", "UPLOAD_MALWARE", &[RESOURCE_DEVELOPMENT]),
    ("T1609", "CONTAINER_ADMINISTRATION_COMMAND", &[EXECUTION]),
    ("T1610", "DEPLOY_CONTAINER", &[DEFENSE_EVASION, EXECUTION]),
    ("T1611", "ESCAPE_TO_HOST", &[PRIVILEGE_ESCALATION]),
    ("T1613", "CONTAINER_AND_RESOURCE_DISCOVERY", &[DISCOVERY]),
    ("T1620", "REFLECTIVE_CODE_LOADING", &[DEFENSE_EVASION]),
    (
        "T1649",
        "STEAL_OR_FORGE_AUTHENTICATION_CERTIFICATES",
        &[CREDENTIAL_ACCESS],
    ),
    ("T1657", "FINANCIAL_THEFT", &[IMPACT]),
];

/// A technique of the table above.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Technique {
    pub(crate) id: &'static str,
    pub(crate) name: &'static str,
}

impl Technique {
    /// ATT&CK's page of it.
    pub(crate) fn uri(self) -> String {
        format!(
            "https://attack.mitre.org/techniques/{}/",
            self.id.replace('.', "/")
        )
    }

    /// See [`title`].
    pub(crate) fn title(self) -> String {
        title(self.name)
    }
}

/// A tactic's or technique's name of SCC's for people, with the capitals that ATT&CK gives it. SCC leaves punctuation out and
/// shortens some: who wants ATT&CK's very name goes by the identifier.
pub(crate) fn title(name: &str) -> String {
    let words = name.split('_').map(|word| {
        let lower = word.to_ascii_lowercase();
        match lower.as_str() {
            "and" | "for" | "from" | "in" | "of" | "or" | "to" => lower,
            "api" | "dns" | "ip" | "os" | "ssh" => word.to_owned(),
            _ => {
                let (first, rest) = lower.split_at_checked(1).unwrap_or(("", &lower));
                first.to_ascii_uppercase() + rest
            }
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// The technique with this name of SCC's.
pub(crate) fn technique(name: &str) -> Option<Technique> {
    let (id, name, _) = TECHNIQUES.iter().find(|(_, other, _)| *other == name)?;
    Some(Technique { id, name })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_capitals_that_attack_gives_them() {
        for (name, expected) in [
            (COMMAND_AND_CONTROL, "Command and Control"),
            ("INGRESS_TOOL_TRANSFER", "Ingress Tool Transfer"),
            ("NATIVE_API", "Native API"),
            (
                "EXPLOITATION_FOR_PRIVILEGE_ESCALATION",
                "Exploitation for Privilege Escalation",
            ),
        ] {
            assert_eq!(title(name), expected);
        }
    }

    #[test]
    fn every_detector_s_techniques_and_tactics_are_in_the_matrix() {
        for spec in detect::CATALOGUE {
            let Some(attack) = spec.attack else { continue };
            for known in attack.techniques.iter().chain(attack.additional_techniques) {
                assert_eq!(
                    technique(known.name).map(|found| found.id),
                    Some(known.id),
                    "{}",
                    spec.id
                );
            }
            for tactic in std::iter::once(&attack.tactic).chain(attack.additional_tactics) {
                assert!(
                    TACTICS.iter().any(|(name, _)| name == tactic),
                    "{}: {tactic}",
                    spec.id
                );
            }
        }
    }
}
