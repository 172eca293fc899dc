//! A fault of the whole worker, switched while it runs: `POST /milepost/sim/fault?set=VALUE`, only with `--allow-faults`.
//!
//! | value | what happens until another is set |
//! |---|---|
//! | `none` | all is well |
//! | `slow:FACTOR` | every step of the engine takes so many times as long |
//! | `stall` | nothing is answered and no stream goes on; what was asked meanwhile is answered when it ends |
//! | `reset_before_head` | every connection that asks is reset, and streams under way are |
//! | any other value of the request header | that fault, for each request for tokens; health checks and questions go on |
//!
//! Rule: the switch itself always answers, and `GET` of it tells what is set. What a process cannot do to itself is not here: to
//! be killed.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use serde_json::json;
use tokio::sync::watch;

use super::Exchange;
use super::fault::{EXPECTED, Fault, poll_cut};
use super::problem;
use super::reply::{Cut, SimBody};

/// Where it is.
pub const PATH: &str = "/milepost/sim/fault";

/// Most times as slow: a second becomes a quarter of an hour.
const SLOWEST: f64 = 1000.0;

/// What is wrong with the whole worker.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Mode {
    #[default]
    Well,
    Slow(f64),
    Faulty(Fault),
}

impl Mode {
    fn parse(value: &str) -> Result<Self, String> {
        if value == "none" {
            return Ok(Self::Well);
        }
        let factor = value.strip_prefix("slow:").and_then(|factor| factor.parse().ok());
        if let Some(factor) = factor.filter(|factor| (1.0..=SLOWEST).contains(factor)) {
            return Ok(Self::Slow(factor));
        }
        Fault::parse(value).map(Self::Faulty).ok_or_else(|| {
            format!("set: expected none, slow:FACTOR (1 to {SLOWEST}), {EXPECTED}; got {value}")
        })
    }

    fn hangs(self) -> bool {
        self == Self::Faulty(Fault::Stall)
    }

    fn resets(self) -> bool {
        self == Self::Faulty(Fault::ResetBeforeHead)
    }
}

/// Tells every connection what is set.
#[derive(Debug, Default)]
pub struct Switch(watch::Sender<Mode>);

impl Switch {
    /// Waits while nothing is answered. The error is a reset.
    pub async fn pass(&self, reset: &AtomicBool) -> Result<(), Cut> {
        self.until(|mode| !mode.hangs()).await;
        if !self.0.borrow().resets() {
            return Ok(());
        }
        reset.store(true, Ordering::Relaxed);
        Err(Cut)
    }

    /// Returns when connections are reset.
    pub async fn resets(&self) {
        self.until(Mode::resets).await;
    }

    async fn until(&self, wanted: impl Fn(Mode) -> bool) {
        // The sender is this one, so that there is no error.
        let _ = self.0.subscribe().wait_for(|mode| wanted(*mode)).await;
    }

    /// The fault that this request is to meet: its own, else what is set. The error says what was wrong with its header.
    pub fn fault_of(&self, request: &Request<Incoming>) -> Result<Option<Fault>, String> {
        let own = Fault::of(request.headers())?;
        let is_for_tokens = request.method() != Method::GET && request.uri().path() != "/flush_cache";
        Ok(own.or(match *self.0.borrow() {
            // Passed already.
            Mode::Faulty(fault) if is_for_tokens && fault != Fault::Stall => Some(fault),
            _ => None,
        }))
    }

    /// A stream that holds still and breaks as the switch says.
    pub fn guard(&self, response: Response<SimBody>, reset: Arc<AtomicBool>) -> Response<SimBody> {
        response.map(|body| match body {
            SimBody::Whole(_) => body,
            SimBody::Chunks(_) => {
                let mode = self.0.subscribe();
                let change = Box::pin(changed(mode.clone()));
                SimBody::Chunks(Box::pin(Guarded { body, mode, change, reset, flushed: false }))
            }
        })
    }
}

/// Answers the switch's own requests.
pub fn answer(exchange: &Exchange, request: &Request<Incoming>) -> Response<SimBody> {
    let worker = &exchange.worker;
    let refuse = |status: StatusCode, why: &str| {
        exchange.replies().json(status, problem::object("error", why, "BadRequestError", status.as_u16()))
    };
    let Some(switch) = &worker.switch else {
        return refuse(StatusCode::FORBIDDEN, "this worker was started without --allow-faults");
    };
    if request.method() == Method::POST {
        let pairs = request.uri().query().unwrap_or_default().split('&');
        let value = pairs.into_iter().find_map(|pair| pair.strip_prefix("set="));
        match Mode::parse(value.unwrap_or_default()) {
            Ok(mode) => {
                worker.runner.slow_down(if let Mode::Slow(factor) = mode { factor } else { 1.0 });
                switch.0.send_replace(mode);
            }
            Err(why) => return refuse(StatusCode::BAD_REQUEST, &why),
        }
    }
    let told = json!({ "fault": format!("{:?}", *switch.0.borrow()) }).to_string();
    exchange.replies().json(StatusCode::OK, told)
}

type Change = Pin<Box<dyn Future<Output = watch::Receiver<Mode>> + Send>>;

/// Returns at the next change; never once the worker is gone.
async fn changed(mut mode: watch::Receiver<Mode>) -> watch::Receiver<Mode> {
    if mode.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
    mode
}

/// A stream under the switch.
struct Guarded {
    body: SimBody,
    mode: watch::Receiver<Mode>,
    change: Change,
    reset: Arc<AtomicBool>,
    flushed: bool,
}

impl Body for Guarded {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        while let Poll::Ready(mode) = self.change.as_mut().poll(cx) {
            self.change = Box::pin(changed(mode));
        }
        let mode = *self.mode.borrow();
        if mode.resets() {
            self.reset.store(true, Ordering::Relaxed);
            return poll_cut(&mut self.flushed, cx);
        }
        if mode.hangs() {
            return Poll::Pending;
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_named_or_refused() {
        assert_eq!(Mode::parse("none"), Ok(Mode::Well));
        assert_eq!(Mode::parse("slow:2.5"), Ok(Mode::Slow(2.5)));
        assert_eq!(Mode::parse("empty_200"), Ok(Mode::Faulty(Fault::Empty200)));
        for bad in ["", "slow", "slow:0.5", "slow:nan", "slow:1e9", "explode"] {
            assert!(Mode::parse(bad).is_err_and(|why| why.contains("slow:FACTOR")), "{bad}");
        }
    }
}
