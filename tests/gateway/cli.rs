//! The command line, as typed: what each command prints, on which stream, and its exit status.

mod audit;
mod probe;
mod schema;
mod trust;

use std::path::Path;

use crate::support::tls::{certificates, endpoint, endpoint_with, show};
use crate::support::{Folder, cert, portcullis, run, stderr, stdout};

/// Runs a command on a configuration file that is written for it.
fn on(config: &str, args: &[&str]) -> (Option<i32>, String, String) {
    let folder = Folder::new();
    let file = folder.write("gateway.toml", config);
    let output = run(&[args, &["--config", file.to_str().unwrap()]].concat());
    let short = |text: String| text.replace(&format!("{}/", folder.path().display()), "");
    (output.status.code(), short(stdout(&output)), short(stderr(&output)))
}

#[test]
fn check_summarizes_every_endpoint_and_succeeds_where_nothing_is_wrong() {
    let plain = "[endpoints.plain]\nlisten = \"127.0.0.1:0\"\nclass = \"internal\"\nhandler = \"show\"\n";
    let (status, out, err) = on(&format!("{}{}{plain}", show(), endpoint("front", &["localhost"], "")), &["check"]);
    assert_eq!((status, err.as_str()), (Some(0), ""), "{out}");
    for part in [
        "front: serves TLS on 127.0.0.1:0, handler show (respond)",
        "plain: serves plain on",
        "versions  TLS 1.2, 1.3",
        "TLS13_AES_256_GCM_SHA384",
        "X25519MLKEM768",
        "alpn      h2, http/1.1",
        "1. CN=localhost, ECDSA P-256, signed with ecdsa-with-SHA256, until 9999-12-31",
        "2. CN=Portcullis Test Issuing CA",
        "gateway.toml: no error",
    ] {
        assert!(out.contains(part), "{part:?} is not in\n{out}");
    }
}

#[test]
fn check_opens_no_port() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = endpoint("front", &["localhost"], "").replace("127.0.0.1:0", &taken.local_addr().unwrap().to_string());
    let (status, _, err) = on(&format!("{}{config}", show()), &["check"]);
    assert_eq!(status, Some(0), "{err}");
}

#[test]
fn check_lists_every_error_with_its_place_and_the_nearest_known_word() {
    let config = format!(
        "{}{}[audit]\non_refusd = \"gateway\"\n[endpoints.back]\nlisten = \"127.0.0.1:0\"\nhandler = \"shwo\"\nalow = []\n",
        show(),
        endpoint("front", &["localhost"], "min_version = \"1.1\"")
    );
    let (status, out, err) = on(&config, &["check"]);
    assert_eq!((status, out.as_str()), (Some(1), ""), "{err}");
    let line = |what: &str| {
        let number = config.lines().position(|line| line.contains(what)).unwrap() + 1;
        let column = config.lines().nth(number - 1).unwrap().find(what).unwrap() + 1;
        format!("gateway.toml:{number}:{column}: ")
    };
    for part in [
        format!("{}audit.on_refusd: unknown key; did you mean \"on_refused\"?", line("on_refusd")),
        format!("{}endpoints.back.alow: unknown key; did you mean \"allow\"?", line("alow")),
        format!("{}endpoints.front.tls.min_version: \"1.1\" is not", line("\"1.1\"")),
        "portcullis: 3 errors".to_owned(),
    ] {
        assert!(err.contains(&part), "{part:?} is not in\n{err}");
    }
    // What the words mean is looked at once they are right.
    let config = config.replace("on_refusd", "on_refused").replace("alow", "allow").replace("1.1", "1.2");
    let (status, _, err) = on(&config, &["check"]);
    assert_eq!(status, Some(1));
    assert!(err.contains("no handler is called \"shwo\"; did you mean \"show\"?"), "{err}");
}

#[test]
fn check_lists_unfit_chains_beside_what_would_be_served_in_their_place() {
    let ends = [endpoint("front", &["md5", "localhost"], ""), endpoint("late", &["expired"], "")];
    let (status, out, err) = on(&format!("{}{}", show(), ends.concat()), &["check"]);
    assert_eq!(status, Some(1), "{out}{err}");
    assert!(out.contains("is served in its place"), "{out}");
    for rule in ["(rule sig-md5)", "(rule expired)"] {
        assert!(err.contains(rule), "{rule} is not in\n{err}");
    }
    assert!(err.ends_with("gateway.toml: 2 errors of its certificates\n"), "{err}");
}

#[test]
fn check_lists_what_is_wrong_beside_what_refuses_an_endpoint() {
    let config = |name: &str| format!("{}{}", show(), endpoint(name, &["md5", "www-expired"], ""));
    let (status, _, err) = on(&config("front"), &["check"]);
    assert_eq!(status, Some(1), "{err}");
    assert!(err.contains("endpoint \"front\" is refused: ") && err.contains("(rule sig-md5)"), "{err}");
    assert!(err.contains("www-expired.pem, certificate 1 of 2") && err.contains("(rule expired)"), "{err}");
    assert!(err.ends_with("2 errors of its certificates\n"), "{err}");
}

#[test]
fn every_file_in_config_passes_its_check_or_fails_as_it_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    crate::support::plugins::chats_of_the_configuration();
    let mut checked = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let output = run(&["check", "--config", path.to_str().unwrap()]);
        let said = stderr(&output);
        match path.file_name().unwrap().to_str().unwrap() {
            // Its certificate is made in memory, for the demo alone.
            "demo.toml" => assert!(said.contains("there is no certificate") && said.contains("1 error"), "{said}"),
            "fallback.toml" => assert!(said.contains("(rule sig-md5)") && said.contains("1 error"), "{said}"),
            "wasm.toml" if cfg!(not(feature = "wasm")) => assert!(said.contains("was built without Wasm"), "{said}"),
            name => assert_eq!(output.status.code(), Some(0), "{name}: {said}"),
        }
        checked += 1;
    }
    assert_eq!(checked, 10);
}

#[test]
fn explain_tells_which_chain_is_served_and_why_each_other_is_not() {
    let config = format!("{}{}", show(), endpoint("front", &["md5-www", "www", "www-rsa", "localhost"], ""));
    let explain = |more: &[&str]| on(&config, &[&["explain", "--endpoint", "front"], more].concat());
    let (status, out, err) = explain(&["--sni", "www.example.com"]);
    assert_eq!((status, err.as_str()), (Some(0), ""));
    let headline = out.lines().next().unwrap();
    assert!(headline.contains("www.example.com gets") && headline.contains("/www.pem (ECDSA P-256)"), "{out}");
    assert!(
        out.contains("md5-www.pem (listed as 1, deny)\n   Not served;") && out.contains("takes its place"),
        "{out}"
    );
    assert!(out.contains("Served only to a client that cannot verify the chains above it"), "{out}");
    assert!(out.contains("Not served: it does not cover www.example.com."), "{out}");
    assert!(explain(&["--sni", "localhost"]).1.lines().next().unwrap().contains("/localhost.pem"));
    assert!(explain(&[]).1.starts_with("A client that names no host gets"));
    assert!(explain(&["--sni", "elsewhere.test"]).1.contains("none covers that name"));
}

#[test]
fn explain_names_the_chain_that_a_client_gets_exact_before_wildcard() {
    let config = format!("{}{}", show(), endpoint("front", &["wildcard", "www"], ""));
    let (_, out, _) = on(&config, &["explain", "--endpoint", "front", "--sni", "www.example.com"]);
    assert!(out.lines().next().unwrap().contains("/www.pem"), "{out}");
}

#[test]
fn explain_fails_where_nothing_is_served() {
    let config = format!("{}{}", show(), endpoint("front", &["md5"], ""));
    let (status, out, _) = on(&config, &["explain", "--endpoint", "front"]);
    assert_eq!(status, Some(1));
    assert!(out.contains("gets nothing: the endpoint is refused.") && out.contains("sig-md5"), "{out}");
    let (status, _, err) = on(&config, &["explain", "--endpoint", "frnt"]);
    assert_eq!(status, Some(1));
    assert!(err.contains("no endpoint is called \"frnt\"; did you mean \"front\"?"), "{err}");
}

#[test]
fn a_chain_and_key_are_found_beside_the_configuration_that_names_them() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path().join("pki")).unwrap();
    for name in ["localhost.pem", "localhost.key"] {
        std::fs::copy(cert(name), folder.path().join("pki").join(name)).unwrap();
    }
    let pair = [("pki/localhost.pem".to_owned(), "pki/localhost.key".to_owned())];
    let file =
        folder.write("gateway.toml", format!("{}{}", show(), endpoint_with("front", "public", "show", &pair, "")));
    let output = portcullis(&["check", "--config", file.to_str().unwrap()]).current_dir("/").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn the_configuration_may_be_named_by_the_environment() {
    let folder = Folder::new();
    let config = endpoint_with("front", "internal", "show", &certificates(&["localhost"]), "");
    let file = folder.write("gateway.toml", format!("{}{config}", show()));
    let output = portcullis(&["check"]).env("PORTCULLIS_CONFIG", &file).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(run(&["check"]).status.code(), Some(2), "nothing names one");
}

#[test]
fn a_configuration_that_cannot_be_read_is_named() {
    for command in [&["check"][..], &["run"], &["explain", "--endpoint", "front"]] {
        let output = run(&[command, &["--config", "/nowhere/gateway.toml"]].concat());
        assert_eq!(output.status.code(), Some(1), "{command:?}");
        let said = stderr(&output);
        assert!(said.starts_with("/nowhere/gateway.toml: cannot read the configuration: "), "{said}");
    }
}

#[test]
fn completions_are_scripts_that_their_shells_can_read() {
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0));
        let script = stdout(&output);
        for word in ["portcullis", "explain", "fail-on"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    let folder = Folder::new();
    let script = folder.write("completions", stdout(&run(&["completions", "bash"])));
    assert!(std::process::Command::new("bash").arg("-n").arg(script).status().unwrap().success());
    assert_eq!(run(&["completions", "tcsh"]).status.code(), Some(2));
}

#[test]
fn man_pages_are_of_the_whole_and_of_each_command() {
    let whole = stdout(&run(&["man"]));
    assert!(whole.contains(".TH portcullis 1") && whole.contains("PORTCULLIS_CONFIG"), "{whole}");
    for command in ["run", "check", "audit", "explain", "schema", "completions", "man", "version"] {
        let page = stdout(&run(&["man", command]));
        assert!(page.contains(&format!(".TH portcullis-{command} 1")), "{command}: {page}");
    }
    assert_eq!(run(&["man", "reload-everything"]).status.code(), Some(2));
}

#[test]
fn the_version_is_the_packages() {
    let version = format!("portcullis {}\n", env!("CARGO_PKG_VERSION"));
    for args in [&["version"], &["--version"], &["-V"]] {
        let output = run(args);
        assert_eq!((output.status.code(), stdout(&output)), (Some(0), version.clone()));
    }
}

#[test]
fn help_names_every_command_and_what_is_typed_wrongly_exits_with_2() {
    let help = stdout(&run(&["--help"]));
    for part in ["run", "check", "audit", "explain", "schema", "completions", "man", "version", "Exit status: 0"] {
        assert!(help.contains(part), "{part:?} is not in\n{help}");
    }
    let wrong = run(&["chekc", "--config", "a.toml"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(stderr(&wrong).contains("check"), "{}", stderr(&wrong));
}
