//! Networks: made, shown, joined and removed.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use bollard_stubs::models::{
    EndpointSettings, NetworkConnectRequest, NetworkCreateRequest, NetworkDisconnectRequest,
};
use engine::request::{NetworkCreation, NetworkUse};
use serde_json::{Value, json};

use super::query::Parameters;
use super::{Api, ApiError, body};
use crate::documents;
use crate::filters::Filters;
use crate::filters::networks::NetworkFilters;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/networks", get(list))
        .route("/networks/create", post(create))
        .route("/networks/prune", post(prune))
        .route("/networks/{id}", get(inspect).delete(remove))
        .route("/networks/{id}/connect", post(connect))
        .route("/networks/{id}/disconnect", post(disconnect))
}

async fn list(State(api): State<Arc<Api>>, parameters: Parameters) -> Result<Json<Value>, ApiError> {
    let filters = NetworkFilters::parse(&parameters.filters()?)?;
    let found = api.ask(move |engine| {
        let mut found = Vec::new();
        for network in engine.networks()? {
            if filters.fit(engine, &network)? {
                let mut document = documents::networks::document(engine, &network)?;
                // Who is in it is told of one network, not of all.
                document["Containers"] = json!({});
                found.push(document);
            }
        }
        Ok(found)
    });
    Ok(Json(found.await?.into()))
}

async fn inspect(State(api): State<Arc<Api>>, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    let found = api.ask(move |engine| documents::networks::document(engine, &engine.find_network(&id)?));
    Ok(Json(found.await?))
}

async fn create(State(api): State<Arc<Api>>, body: Body) -> Result<(StatusCode, Json<Value>), ApiError> {
    let request: NetworkCreateRequest = body::json(body).await?;
    let creation = creation(request)?;
    let made = api.ask(move |engine| engine.create_network(&creation)).await?;
    Ok((StatusCode::CREATED, Json(json!({ "Id": made.id, "Warning": "" }))))
}

/// What a client asks for, in the engine's words.
fn creation(request: NetworkCreateRequest) -> Result<NetworkCreation, ApiError> {
    let refused = [
        (
            request.scope.as_deref().is_some_and(|scope| !matches!(scope, "" | "local")),
            "the only scope is local",
        ),
        (request.ingress == Some(true), "there is no cluster, so no ingress network"),
        (request.config_only == Some(true), "networks that are only a configuration are not supported"),
        (
            request
                .config_from
                .as_ref()
                .is_some_and(|from| from.network.as_deref().is_some_and(|name| !name.is_empty())),
            "networks that are only a configuration are not supported",
        ),
        (request.enable_ipv4 == Some(false), "networks always have IPv4 addresses"),
        (
            request
                .ipam
                .as_ref()
                .and_then(|ipam| ipam.driver.as_deref())
                .is_some_and(|driver| !matches!(driver, "" | "default")),
            "addresses are given out by the driver default only",
        ),
    ];
    if let Some((_, why)) = refused.iter().find(|(refused, _)| *refused) {
        return Err(ApiError::bad_request(format!("cannot create the network {}: {why}", request.name)));
    }
    let mut creation = NetworkCreation {
        name: request.name,
        ipv6: request.enable_ipv6.unwrap_or(false),
        internal: request.internal.unwrap_or(false),
        attachable: request.attachable.unwrap_or(false),
        labels: request.labels.unwrap_or_default().into_iter().collect(),
        driver: request.driver.filter(|driver| !driver.is_empty()).unwrap_or_else(|| "bridge".to_owned()),
        options: request.options.unwrap_or_default().into_iter().collect(),
        subnets: Vec::new(),
        gateways: Vec::new(),
        ranges: Vec::new(),
        auxiliary: BTreeMap::new(),
    };
    for config in request.ipam.and_then(|ipam| ipam.config).unwrap_or_default() {
        let some = |text: Option<String>| text.filter(|text| !text.is_empty());
        creation.subnets.extend(some(config.subnet));
        creation.ranges.extend(some(config.ip_range));
        if let Some(gateway) = some(config.gateway) {
            creation.gateways.push(address(&gateway)?);
        }
        for (name, text) in config.auxiliary_addresses.unwrap_or_default() {
            creation.auxiliary.insert(name, address(&text)?);
        }
    }
    Ok(creation)
}

fn address<T: std::str::FromStr>(text: &str) -> Result<T, ApiError> {
    text.parse().map_err(|_| ApiError::bad_request(format!("invalid address {text:?}")))
}

async fn remove(State(api): State<Arc<Api>>, Path(id): Path<String>) -> Result<StatusCode, ApiError> {
    api.ask(move |engine| engine.remove_network(&id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn connect(State(api): State<Arc<Api>>, Path(id): Path<String>, body: Body) -> Result<(), ApiError> {
    let request: NetworkConnectRequest = body::json(body).await?;
    let container = request.container;
    let wanted = membership(id, request.endpoint_config.unwrap_or_default())?;
    api.ask(move |engine| engine.connect_network(&container, &wanted)).await
}

/// A container's part of a network, in the engine's words.
fn membership(network: String, settings: EndpointSettings) -> Result<NetworkUse, ApiError> {
    let ipam = settings.ipam_config.unwrap_or_default();
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let link = |text: String| match text.split_once(':') {
        Some((name, alias)) => (name.to_owned(), alias.to_owned()),
        None => (text.clone(), text),
    };
    Ok(NetworkUse {
        network,
        aliases: settings.aliases.unwrap_or_default(),
        address: given(ipam.ipv4_address).as_deref().map(address).transpose()?,
        address6: given(ipam.ipv6_address).as_deref().map(address).transpose()?,
        link_local: ipam
            .link_local_ips
            .unwrap_or_default()
            .iter()
            .map(|text| address::<IpAddr>(text))
            .collect::<Result<_, _>>()?,
        links: settings.links.unwrap_or_default().into_iter().map(link).collect(),
        options: settings.driver_opts.unwrap_or_default().into_iter().collect(),
        gateway_priority: settings.gw_priority.unwrap_or(0),
        ..NetworkUse::default()
    })
}

async fn disconnect(State(api): State<Arc<Api>>, Path(id): Path<String>, body: Body) -> Result<(), ApiError> {
    let request: NetworkDisconnectRequest = body::json(body).await?;
    let container = request.container;
    api.ask(move |engine| engine.disconnect_network(&id, &container)).await
}

async fn prune(State(api): State<Arc<Api>>, parameters: Parameters) -> Result<Json<Value>, ApiError> {
    let filters = Filters::parse_for_images(&parameters.filters()?, engine::now())?;
    let removed = api.ask(move |engine| {
        engine.prune_networks(|network| {
            let is_old =
                filters.until.is_none_or(|until| network.created_at.is_some_and(|made| made < until));
            is_old && filters.labels.iter().all(|label| label.fits(&network.labels()))
        })
    });
    Ok(Json(json!({ "NetworksDeleted": removed.await? })))
}
