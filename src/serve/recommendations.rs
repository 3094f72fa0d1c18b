//! `/api/v1/recommendations`: advice as JSON.

use http::{Response, StatusCode};

use super::App;
use super::containers::measured;
use super::respond::{Body, json, text};
use crate::advise::Report;

pub(super) async fn answer(app: &App) -> Response<Body> {
    let (collection, _scrape) = match measured(app).await {
        Ok(measured) => measured,
        Err(response) => return response,
    };
    match serde_json::to_vec(&Report::of(&collection.advice)) {
        Ok(body) => json(StatusCode::OK, body),
        Err(e) => text(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()),
    }
}
