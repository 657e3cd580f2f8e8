//! Events in, events out: order, parking, processes.
