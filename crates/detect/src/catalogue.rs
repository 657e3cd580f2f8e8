//! The list of all detectors. Adding one adds its file, its module and its line here.

use crate::{
    detectors::{
        added_binary_executed, added_library_loaded, added_malicious_binary_executed,
        added_malicious_library_loaded, built_in_malicious_binary_executed,
        built_in_malicious_library_loaded, container_not_covered, events_dropped,
        malicious_binary_executed, malicious_library_loaded, modified_malicious_binary_executed,
        modified_malicious_library_loaded, sensor_lost, suspicious_openssl_shared_object_loaded,
    },
    spec::Spec,
};

/// All detectors, threats first, then errors of the watch itself.
pub static CATALOGUE: &[&Spec] = &[
    &added_malicious_binary_executed::SPEC,
    &modified_malicious_binary_executed::SPEC,
    &built_in_malicious_binary_executed::SPEC,
    &malicious_binary_executed::SPEC,
    &added_malicious_library_loaded::SPEC,
    &modified_malicious_library_loaded::SPEC,
    &built_in_malicious_library_loaded::SPEC,
    &malicious_library_loaded::SPEC,
    &suspicious_openssl_shared_object_loaded::SPEC,
    &added_binary_executed::SPEC,
    &added_library_loaded::SPEC,
    &sensor_lost::SPEC,
    &events_dropped::SPEC,
    &container_not_covered::SPEC,
];

/// The detector with that id.
pub fn find(id: &str) -> Option<&'static Spec> {
    CATALOGUE.iter().copied().find(|spec| spec.id == id)
}
