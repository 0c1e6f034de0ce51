//! Configuration text: it is read, or every problem says in one line what is wrong, at a place in the text.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::config::Source;

fuzz_target!(|text: &str| {
    let source = Source::new("gateway.toml", text);
    let Err(problems) = source.parse() else { return };
    assert!(!problems.is_empty(), "refused without a reason");
    let lines: Vec<&str> = text.split('\n').collect();
    for problem in &problems {
        let told = problem.to_string();
        assert!(!told.chars().any(char::is_control), "a problem holds a control character: {told:?}");
        if let Some(place) = &problem.place {
            let line = lines.get(place.line.wrapping_sub(1)).expect("the place is behind the text");
            assert!((1..=line.chars().count() + 1).contains(&place.column), "no such column: {told}");
        }
    }
});
