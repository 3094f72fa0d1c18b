//! Advice as JSON: what `/api/v1/recommendations` answers and `kina-exporter advise` prints. Names never change their
//! meaning; new ones may come.

use serde::{Deserialize, Serialize};

use super::{Advice, Missing, Recommendation, SubjectKind};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub recommendations: Vec<Item>,
    /// Rules that can't tell, and what they lack.
    pub missing: Vec<Lack>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Item {
    pub domain: String,
    pub action: String,
    /// `container`, `group` (all containers of one image) or `machine`.
    pub about: String,
    /// The container's name, the group's image, or `machine`.
    pub subject: String,
    pub containers: Vec<Named>,
    pub finding: String,
    pub advice: String,
    /// In base units: bytes, cores, seconds, ratios.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recommended: Option<f64>,
    /// For each container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_savings_bytes: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Named {
    pub id: String,
    pub name: String,
    pub image: String,
    pub runtime: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lack {
    pub domain: String,
    pub action: String,
    pub missing: Vec<String>,
    pub containers: usize,
}

impl Report {
    pub fn of(advice: &Advice) -> Self {
        let mut items: Vec<&Recommendation> = advice.items.iter().collect();
        items.sort_by(|a, b| (a.action.domain(), a.subject.name()).cmp(&(b.action.domain(), b.subject.name())));
        Self {
            recommendations: items.into_iter().map(Item::of).collect(),
            missing: advice.missing().iter().map(Lack::of).collect(),
        }
    }
}

impl Item {
    fn of(r: &Recommendation) -> Self {
        let named = |m: &super::Member| Named {
            id: m.container.identity.id.clone(),
            name: m.container.identity.name.clone(),
            image: m.container.identity.image.clone(),
            runtime: m.container.runtime.name().to_owned(),
        };
        let about = match r.subject.kind() {
            SubjectKind::Container => "container",
            SubjectKind::Group => "group",
            SubjectKind::Machine => "machine",
        };
        Self {
            domain: r.action.domain().name().to_owned(),
            action: r.action.name().to_owned(),
            about: about.to_owned(),
            subject: r.subject.name().to_owned(),
            containers: r.subject.members().iter().map(named).collect(),
            finding: r.finding.clone(),
            advice: r.advice.clone(),
            current: r.figures.current,
            recommended: r.figures.recommended,
            estimated_savings_bytes: r.figures.savings_bytes,
        }
    }
}

impl Lack {
    fn of(m: &Missing) -> Self {
        Self {
            domain: m.action.domain().name().to_owned(),
            action: m.action.name().to_owned(),
            missing: m.measures.iter().map(|m| m.about().to_owned()).collect(),
            containers: m.containers,
        }
    }
}
