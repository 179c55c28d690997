//! What every request of the admin port passes before its path decides where it goes: double slashes become single
//! ones, and who may not call is refused. One small service, since it is on the way of every lookup.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use tower::Service;

use super::{Admin, guard};

/// The routes behind their guard.
#[derive(Clone)]
pub struct Front {
    admin: Arc<Admin>,
    routes: Router,
}

impl Front {
    /// Puts these routes behind it.
    pub fn new(admin: Arc<Admin>, routes: Router) -> Self {
        Self { admin, routes }
    }
}

impl Service<Request> for Front {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(())) // as a router is, always
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        single_slashes(&mut request);
        match guard::refuse(&self.admin.config, &request) {
            Some(refusal) => Box::pin(async { Ok(refusal.into_response()) }),
            None => Box::pin(self.routes.call(request)),
        }
    }
}

/// Takes `//c/banks` for `/c/banks`, without a redirect: Coop's client writes it so (specs/coop.md 3).
fn single_slashes(request: &mut Request) {
    let path = request.uri().path();
    if !path.contains("//") {
        return;
    }
    let mut single = String::with_capacity(path.len());
    for character in path.chars() {
        if character != '/' || !single.ends_with('/') {
            single.push(character);
        }
    }
    if let Some(query) = request.uri().query() {
        single.push('?');
        single.push_str(query);
    }
    // Still a path: characters were only left out.
    if let Ok(uri) = single.parse() {
        *request.uri_mut() = uri;
    }
}
