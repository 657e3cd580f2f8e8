//! One file per detector: its page of documentation, its declaration, its logic and its simulation.

pub(crate) mod added_binary_executed;
pub(crate) mod added_library_loaded;
pub(crate) mod added_malicious_binary_executed;
pub(crate) mod added_malicious_library_loaded;
pub(crate) mod built_in_malicious_binary_executed;
pub(crate) mod built_in_malicious_library_loaded;
pub(crate) mod container_not_covered;
pub(crate) mod events_dropped;
pub(crate) mod malicious_binary_executed;
pub(crate) mod malicious_library_loaded;
pub(crate) mod modified_malicious_binary_executed;
pub(crate) mod modified_malicious_library_loaded;
pub(crate) mod sensor_lost;
pub(crate) mod suspicious_openssl_shared_object_loaded;
