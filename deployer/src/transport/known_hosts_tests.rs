//! What known_hosts files say, compared with files that ssh-keygen wrote.
#![allow(clippy::unwrap_used)]

use std::process::Command;

use super::*;

const A: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB9dG4kjRhQTtWTVzd2t27+t0DEHBPW7iOD23TUiYLio";
const B: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
const OTHER_TYPE: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAAQc=";

fn check(text: &str, host: &str, port: u16, key: &str) -> Verdict {
    let mut known = KnownHosts::default();
    known.add(text, Path::new("kh"));
    let key = PublicKey::from_openssh(key).unwrap();
    known.check(&HostNames::new(host, port, None), &key)
}

fn trusts(line_patterns: &str, host: &str, port: u16) -> bool {
    check(&format!("{line_patterns} {A} comment\n"), host, port, A) == Verdict::Known
}

#[test]
fn patterns_name_hosts_and_ports() {
    for (patterns, host, port, expected) in [
        ("example.com", "example.com", 22, true),
        ("example.com", "EXAMPLE.com", 22, true),
        ("Example.COM", "example.com", 22, true),
        ("example.com", "example.org", 22, false),
        ("example.com", "www.example.com", 22, false),
        ("example.com", "example.com", 2222, true),
        ("[example.com]:2222", "example.com", 2222, true),
        ("[example.com]:2222", "example.com", 22, false),
        ("[example.com]:2222", "example.com", 2223, false),
        ("[*.example.com]:2222", "a.example.com", 2222, true),
        ("a,b,c", "b", 22, true),
        ("*.example.com", "a.b.example.com", 22, true),
        ("*.example.com", "example.com", 22, false),
        ("app?.example.com", "app1.example.com", 22, true),
        ("app?.example.com", "app12.example.com", 22, false),
        ("*.example.com,!bad.example.com", "ok.example.com", 22, true),
        (
            "*.example.com,!bad.example.com",
            "bad.example.com",
            22,
            false,
        ),
        (
            "!bad.example.com,*.example.com",
            "bad.example.com",
            22,
            false,
        ),
        ("!bad.example.com", "good.example.com", 22, false),
        ("*", "anything", 2222, true),
        ("a*b*c", "aXXbYYc", 22, true),
        ("a*b*c", "aXXbYYd", 22, false),
        ("::1", "::1", 22, true),
        ("[::1]:2222", "::1", 2222, true),
    ] {
        assert_eq!(
            trusts(patterns, host, port),
            expected,
            "{patterns} for {host} {port}"
        );
    }
}

#[test]
fn another_key_of_the_type_is_a_change_and_names_its_line() {
    let text = format!("# comment\n\nexample.com {B}\n");
    let Verdict::Changed(known) = check(&text, "example.com", 22, A) else {
        panic!("not a change");
    };
    assert_eq!(
        (known[0].line, known[0].file.as_path()),
        (3, Path::new("kh"))
    );
    let expected = PublicKey::from_openssh(B)
        .unwrap()
        .fingerprint(HashAlg::Sha256);
    assert_eq!(known[0].fingerprint, expected.to_string());
}

#[test]
fn one_of_several_recorded_keys_is_enough() {
    let text = format!("example.com {B}\nexample.com {A}\n");
    assert_eq!(check(&text, "example.com", 22, A), Verdict::Known);
}

#[test]
fn a_key_of_another_type_leaves_the_host_unknown_and_is_shown() {
    let text = format!("example.com {OTHER_TYPE}\n");
    let Verdict::Unknown(known) = check(&text, "example.com", 22, A) else {
        panic!("not unknown");
    };
    assert_eq!(known[0].algorithm, "ssh-rsa");
    assert_eq!(
        check("", "example.com", 22, A),
        Verdict::Unknown(Vec::new())
    );
}

#[test]
fn a_revoked_key_wins_over_a_trusted_one_wherever_it_stands() {
    for text in [
        format!("@revoked * {A}\nexample.com {A}\n"),
        format!("example.com {A}\n@revoked example.com {A}\n"),
        format!("[example.com]:2222 {A}\n@revoked example.com {A}\n"),
    ] {
        let verdict = check(&text, "example.com", 2222, A);
        assert!(matches!(verdict, Verdict::Revoked(_)), "{text} {verdict:?}");
    }
    let text = format!("@revoked * {B}\nexample.com {A}\n");
    assert_eq!(check(&text, "example.com", 22, A), Verdict::Known);
    let text = format!("@revoked other {A}\nexample.com {A}\n");
    assert_eq!(check(&text, "example.com", 22, A), Verdict::Known);
}

#[test]
fn a_key_recorded_for_the_port_hides_the_one_without() {
    let text = format!("[example.com]:2222 {B}\nexample.com {A}\n");
    assert!(matches!(
        check(&text, "example.com", 2222, A),
        Verdict::Changed(_)
    ));
}

#[test]
fn an_alias_is_looked_up_without_port() {
    let names = HostNames::new("10.0.0.1", 2222, Some("Cluster"));
    assert_eq!((names.name.as_str(), names.portless), ("cluster", None));
}

#[test]
fn lines_that_are_no_entries_trust_nobody() {
    for text in [
        format!("@cert-authority example.com {A}"),
        format!("@unknown example.com {A}"),
        format!("#example.com {A}"),
        "example.com".into(),
        "example.com ssh-ed25519".into(),
        format!("|1|broken {A}"),
        format!("|1|bm8=|bm8= {A}"),
        format!("|2|a|b {A}"),
    ] {
        assert_eq!(
            check(&text, "example.com", 22, A),
            Verdict::Unknown(Vec::new()),
            "{text}"
        );
    }
}

#[test]
fn tabs_and_carriage_returns_separate_fields() {
    let text = format!("example.com\t{}\r\n", A.replace(' ', "\t"));
    assert_eq!(check(&text, "example.com", 22, A), Verdict::Known);
}

#[test]
fn hashes_made_by_ssh_keygen_match() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kh");
    std::fs::write(&file, format!("example.com {A}\n[example.com]:2222 {B}\n")).unwrap();
    let hash = Command::new("ssh-keygen").arg("-Hf").arg(&file).output();
    let hash = hash.expect("ssh-keygen of the package openssh-client is needed");
    assert!(hash.status.success(), "{hash:?}");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(
        text.starts_with("|1|") && !text.contains("example.com"),
        "{text}"
    );

    assert_eq!(check(&text, "example.com", 22, A), Verdict::Known);
    assert_eq!(check(&text, "example.com", 2222, B), Verdict::Known);
    assert!(matches!(
        check(&text, "example.com", 22, B),
        Verdict::Changed(_)
    ));
    assert_eq!(
        check(&text, "example.org", 22, A),
        Verdict::Unknown(Vec::new())
    );
}
