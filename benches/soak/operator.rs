//! What happens to the workers: they fall sick, go down and come back at the same port, leave the fleet and join it.
//!
//! Rule: at most half of them are away at a time, and none is in two kinds of trouble at once; in the end all are well and in
//! the fleet. Deliberately not here: what a worker does with a request.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::dice::Dice;
use crate::stage::Stage;
use crate::visits::odd::errand;
use crate::worker::Worker;

/// One kind of trouble.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    Sick,
    Down,
    Removed,
    RemovedTheOldWay,
}

/// Makes trouble until the stage closes, then waits until it is over.
pub async fn operate(stage: Arc<Stage>, workers: Vec<Arc<Worker>>, mut dice: Dice) {
    let away = Arc::new(Semaphore::new((workers.len() / 2).max(1)));
    let own: Vec<Arc<Semaphore>> = workers.iter().map(|_| Arc::new(Semaphore::new(1))).collect();
    let mut running = JoinSet::new();
    while !stage.is_closing() {
        tokio::time::sleep(Duration::from_millis(dice.between(300, 2_500))).await;
        while running.try_join_next().is_some() {}
        let which = dice.between(0, workers.len() as u64 - 1) as usize;
        let trouble = dice.pick(&[
            (3, Trouble::Sick),
            (3, Trouble::Down),
            (2, Trouble::Removed),
            (1, Trouble::RemovedTheOldWay),
        ]);
        let for_ms = dice.between(200, 5_000);
        let places = (Arc::clone(&own[which]).try_acquire_owned(), Arc::clone(&away).try_acquire_owned());
        if let (Ok(mine), Ok(place)) = places {
            let (stage, worker) = (Arc::clone(&stage), Arc::clone(&workers[which]));
            running.spawn(async move {
                make(&stage, &worker, trouble, Duration::from_millis(for_ms)).await;
                drop((mine, place));
            });
        }
    }
    while running.join_next().await.is_some() {}
}

async fn make(stage: &Stage, worker: &Worker, trouble: Trouble, how_long: Duration) {
    let url = &worker.url;
    match trouble {
        Trouble::Sick => {
            worker.set_sick(true);
            tokio::time::sleep(how_long).await;
            worker.set_sick(false);
        }
        Trouble::Down => {
            worker.set_up(false);
            tokio::time::sleep(how_long).await;
            worker.set_up(true);
        }
        Trouble::Removed => {
            let described = format!(r#"{{"url":"{url}"}}"#);
            let Some(id) = id_of_worker(stage, &described).await else {
                return;
            };
            expect(stage, "DELETE", &format!("/workers/{id}"), "", 202).await;
            tokio::time::sleep(how_long).await;
            expect(stage, "POST", "/workers", &described, 202).await;
        }
        Trouble::RemovedTheOldWay => {
            expect(stage, "POST", &format!("/remove_worker?url={url}"), "", 200).await;
            tokio::time::sleep(how_long).await;
            expect(stage, "POST", &format!("/add_worker?url={url}"), "", 200).await;
        }
    }
}

/// The id that the router has for a worker; to add one that is there changes nothing and tells it.
async fn id_of_worker(stage: &Stage, described: &str) -> Option<String> {
    let (_, body) = errand(stage, "POST", "/workers", described).await?;
    let told: serde_json::Value = serde_json::from_slice(&body).ok()?;
    let id = told.get("worker_id").and_then(serde_json::Value::as_str);
    if id.is_none() {
        stage.ledger.complain(format!("POST /workers does not tell an id: {told}"));
    }
    id.map(str::to_owned)
}

async fn expect(stage: &Stage, method: &str, target: &str, body: &str, status: u16) {
    let told = errand(stage, method, target, body).await.map(|(status, _)| status);
    if told != Some(status) {
        stage.ledger.complain(format!("{method} {target}: {told:?}, expected {status}"));
    }
}
