//! Targets in force and recommendations.

use crate::advise::{Advice, Recommendation, SubjectKind};
use crate::catalog::{
    RECOMMENDATION, RECOMMENDATION_CURRENT, RECOMMENDATION_RECOMMENDED, RECOMMENDATION_SAVINGS, TARGET,
};
use crate::sample::{Entity, Samples};
use crate::targets::{self, Targets};

pub fn emit(entities: &[Entity], targets: &Targets, advice: &Advice, out: &mut Samples) {
    for (id, _) in targets::targets() {
        out.push_with(TARGET, Entity::NONE, &[("target", id.name())], targets.get(id));
    }
    for item in advice.items.iter() {
        if item.subject.kind() == SubjectKind::Machine {
            one(item, Entity::NONE, out);
        }
        for member in item.subject.members() {
            if let Some(&entity) = entities.get(member.index) {
                one(item, entity, out);
            }
        }
    }
}

fn one(item: &Recommendation, entity: Entity, out: &mut Samples) {
    let labels = [("domain", item.action.domain().name()), ("action", item.action.name())];
    out.push_with(RECOMMENDATION, entity, &labels, 1.0);
    out.push_with_opt(RECOMMENDATION_CURRENT, entity, &labels, item.figures.current);
    out.push_with_opt(RECOMMENDATION_RECOMMENDED, entity, &labels, item.figures.recommended);
    out.push_with_opt(RECOMMENDATION_SAVINGS, entity, &labels, item.figures.savings_bytes);
}
