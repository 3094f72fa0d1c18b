//! Catalog and targets → rules, alerts, dashboards, reference documentation.
