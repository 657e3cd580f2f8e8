//! The page's own files, inside the program. Their address holds a digest of their content, so browsers may keep them.

use std::sync::LazyLock;

use axum::{
    extract::Path,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use model::hex;
use sha2::{Digest, Sha256};

struct Asset {
    name: &'static str,
    kind: &'static str,
    body: &'static str,
    href: String,
}

static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    [
        (
            "hullwatch.css",
            "text/css; charset=utf-8",
            include_str!("../../static/hullwatch.css"),
        ),
        (
            "hullwatch.js",
            "text/javascript; charset=utf-8",
            include_str!("../../static/hullwatch.js"),
        ),
        (
            "icon.svg",
            "image/svg+xml",
            include_str!("../../static/icon.svg"),
        ),
    ]
    .into_iter()
    .map(|(name, kind, body)| {
        let digest = hex::encode(&Sha256::digest(body)[..8]);
        Asset {
            name,
            kind,
            body,
            href: format!("/static/{digest}/{name}"),
        }
    })
    .collect()
});

/// Address of an asset. The name is one of those above.
pub(crate) fn href(name: &str) -> &'static str {
    ASSETS
        .iter()
        .find(|asset| asset.name == name)
        .map_or("", |asset| &asset.href)
}

pub(crate) async fn serve(Path((_, name)): Path<(String, String)>) -> Response {
    match ASSETS.iter().find(|asset| asset.name == name) {
        Some(asset) => (
            [
                (header::CONTENT_TYPE, asset.kind),
                (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
            ],
            asset.body,
        )
            .into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
