//! Plugins on the admin port: the `/plugins` view and the `plugin_` metrics, both from the chains of the running plan.
//!
//! Called by `routes` and by `scrape`.

use hyper::StatusCode;
use serde_json::{Map, Value, json};

use crate::admin::answer::Answer;
use crate::admin::exposition::Exposition;
use crate::admin::routes::Asked;
use crate::admin::state::Snapshot;
use crate::metrics::table;
use crate::plugin::counters::{Callback, LayerCounters, Refusal};
use crate::plugin::{Chain, Run, Standing};

/// Every endpoint's chain of plugins, with its layers.
pub(crate) fn view(asked: &Asked<'_>) -> Answer {
    let mut all = Vec::new();
    for plan in &asked.running.plan.endpoints {
        let Some(chain) = plan.instance().and_then(|instance| instance.instance().plugin()) else { continue };
        let standing = chain.standing();
        let layers: Vec<_> = (0..chain.layers()).filter_map(|number| layer(chain, number)).collect();
        all.push(json!({
            "endpoint": plan.endpoint.name,
            "handler": plan.handler.0,
            "state": standing.as_str(),
            "reason": standing.reason(),
            "layers": layers,
        }));
    }
    Answer::json(StatusCode::OK, &json!({ "plugins": all }))
}

fn layer(chain: &Chain, number: usize) -> Option<Value> {
    let counters = chain.counters(number)?;
    let (run, threads) = match chain.run(number)? {
        Run::Inline => ("inline", None),
        Run::Pool(threads) => ("pool", Some(threads)),
    };
    let callbacks = Callback::ALL.iter().map(|it| (it.as_str().to_owned(), counters.callbacks(*it).into()));
    let refusals = Refusal::ALL.iter().map(|it| (it.as_str().to_owned(), counters.refusals(*it).into()));
    Some(json!({
        "layer": number,
        "plugin": chain.plugin(number),
        "digest": chain.digest(number).map(|digest| format!("sha256:{digest}")),
        "version": counters.version(),
        "run": run,
        "threads": threads,
        "callbacks": callbacks.collect::<Map<_, _>>(),
        "callback_seconds": counters.seconds(),
        "queue": counters.queue(),
        "buffered_bytes": counters.buffered(),
        "memory_bytes": counters.memory(),
        "refusals": refusals.collect::<Map<_, _>>(),
        "restarts": counters.restarts(),
    }))
}

/// Writes the metrics of every chain.
pub(crate) fn scrape(out: &mut Exposition, running: &Snapshot) {
    let all = chains(running);
    let mut family = out.family(&table::PLUGIN_INFO);
    each(&all, |labels, chain, layer| {
        let number = labels[1].parse().ok();
        let plugin = number.and_then(|number| chain.plugin(number)).unwrap_or_default();
        family.sample(&[labels[0], labels[1], plugin, &layer.version()], 1);
    });
    let mut family = out.family(&table::PLUGIN_UP);
    for (endpoint, chain) in &all {
        family.sample(&[endpoint], u8::from(chain.standing() == Standing::Ready));
    }
    let mut family = out.family(&table::PLUGIN_CALLBACKS);
    each(&all, |labels, _, layer| {
        for callback in Callback::ALL {
            family.sample(&[labels[0], labels[1], callback.as_str()], layer.callbacks(*callback));
        }
    });
    let mut family = out.family(&table::PLUGIN_CALLBACK_SECONDS);
    each(&all, |labels, _, layer| family.sample(&labels, layer.seconds()));
    let mut family = out.family(&table::PLUGIN_QUEUE);
    each(&all, |labels, _, layer| family.sample(&labels, layer.queue() as u64));
    let mut family = out.family(&table::PLUGIN_BUFFERED);
    each(&all, |labels, _, layer| family.sample(&labels, layer.buffered() as u64));
    let mut family = out.family(&table::PLUGIN_MEMORY);
    each(&all, |labels, _, layer| family.sample(&labels, layer.memory() as u64));
    let mut family = out.family(&table::PLUGIN_REFUSALS);
    each(&all, |labels, _, layer| {
        for refusal in Refusal::ALL {
            family.sample(&[labels[0], labels[1], refusal.as_str()], layer.refusals(*refusal));
        }
    });
    let mut family = out.family(&table::PLUGIN_RESTARTS);
    each(&all, |labels, _, layer| family.sample(&labels, layer.restarts()));
}

/// Every chain, by its endpoint's name.
fn chains(running: &Snapshot) -> Vec<(&str, &Chain)> {
    let all = running.plan.endpoints.iter();
    all.filter_map(|plan| Some((plan.endpoint.name.as_str(), plan.instance()?.instance().plugin()?))).collect()
}

/// Calls `write` for every layer, with its labels.
fn each(all: &[(&str, &Chain)], mut write: impl FnMut([&str; 2], &Chain, &LayerCounters)) {
    for (endpoint, chain) in all {
        for number in 0..chain.layers() {
            if let Some(layer) = chain.counters(number) {
                write([endpoint, &number.to_string()], chain, layer);
            }
        }
    }
}
