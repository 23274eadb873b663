//! Settings from dumps, from a real `ssh -G`, and without ssh.
#![allow(clippy::unwrap_used)]

use super::*;

fn caller() -> Caller {
    Caller {
        user: Some("me".into()),
        home: Some("/home/me".into()),
        agent_socket: Some("/run/agent".into()),
        ..Caller::default()
    }
}

fn from_dump(target: &SshTarget, text: &str) -> Result<Settings, TransportError> {
    settings(target, &caller(), parse(text))
}

/// Settings of `host` under a configuration file, by the real ssh.
async fn from_config(host: &str, config: &str) -> Result<Settings, TransportError> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config");
    std::fs::write(&file, config).unwrap();
    let caller = Caller {
        ssh_config: Some(file),
        ..caller()
    };
    resolve(&SshTarget::new(host), &caller).await
}

#[test]
fn defaults_hold_without_a_dump() {
    let settings = from_dump(&SshTarget::new("app1"), "").unwrap();
    assert_eq!((settings.host.as_str(), settings.port), ("app1", 22));
    assert_eq!(settings.user, "me");
    let key = PathBuf::from("/home/me/.ssh/id_ed25519");
    assert_eq!(settings.identities[0], key);
    let files: Vec<_> = settings
        .known_hosts
        .iter()
        .map(|file| file.display().to_string())
        .collect();
    assert_eq!(files[0], "/home/me/.ssh/known_hosts");
    assert_eq!(files[2], "/etc/ssh/ssh_known_hosts");
    assert_eq!(settings.agent, Some("/run/agent".into()));
}

#[test]
fn configured_values_win_over_the_dump() {
    let target = SshTarget {
        user: Some("deploy".into()),
        host: "app1".into(),
        port: Some(2222),
        identity_file: Some("~/deploy_key".into()),
        known_hosts: Some("/srv/known_hosts".into()),
    };
    let dump =
        "user x\nport 99\nhostname 10.0.0.1\nidentityfile /other\nuserknownhostsfile /a /b\n";
    let settings = from_dump(&target, dump).unwrap();
    assert_eq!((settings.user.as_str(), settings.port), ("deploy", 2222));
    assert_eq!(settings.host, "10.0.0.1");
    assert_eq!(settings.names.name, "[10.0.0.1]:2222");
    assert_eq!(settings.identities, [PathBuf::from("/home/me/deploy_key")]);
    assert!(settings.identities_only);
    assert_eq!(settings.known_hosts, [PathBuf::from("/srv/known_hosts")]);
}

#[test]
fn what_cannot_be_honoured_is_refused() {
    for (line, setting) in [
        ("proxyjump bastion", "proxyjump"),
        ("ProxyCommand nc %h %p", "proxycommand"),
        ("revokedhostkeys /etc/ssh/krl", "revokedhostkeys"),
        ("knownhostscommand /bin/x %H", "knownhostscommand"),
    ] {
        match from_dump(&SshTarget::new("app1"), line) {
            Err(TransportError::UnsupportedSetting { setting: found, .. }) => {
                assert_eq!(found, setting);
            }
            other => panic!("{line}: {other:?}"),
        }
    }
    assert!(from_dump(&SshTarget::new("app1"), "proxyjump none\nproxycommand none").is_ok());
}

#[test]
fn a_dumped_host_or_user_is_checked_like_a_configured_one() {
    assert!(from_dump(&SshTarget::new("app1"), "hostname -oProxyCommand=x").is_err());
    assert!(from_dump(&SshTarget::new("app1"), "user -x").is_err());
}

#[test]
fn the_agent_is_the_configured_one() {
    let agent = |line: &str| from_dump(&SshTarget::new("a"), line).unwrap().agent;
    assert_eq!(agent("identityagent none"), None);
    assert_eq!(
        agent("identityagent SSH_AUTH_SOCK"),
        Some("/run/agent".into())
    );
    assert_eq!(
        agent("identityagent ~/a%%b-%h.sock"),
        Some("/home/me/a%b-a.sock".into())
    );
}

#[tokio::test]
async fn settings_come_from_the_real_ssh() {
    let config = "Host web\n HostName 192.0.2.7\n Port 2200\n User deploy\n\
                  IdentityFile ~/.ssh/web-%r\n IdentitiesOnly yes\n HostKeyAlias cluster\n\
                  UserKnownHostsFile /srv/kh1 /srv/kh2\n GlobalKnownHostsFile none\n";
    let settings = from_config("web", config).await.unwrap();
    assert_eq!((settings.host.as_str(), settings.port), ("192.0.2.7", 2200));
    assert_eq!(settings.user, "deploy");
    assert_eq!(
        settings.identities,
        [PathBuf::from("/home/me/.ssh/web-deploy")]
    );
    assert!(settings.identities_only && settings.configured_identities);
    assert_eq!(settings.names.name, "cluster");
    assert_eq!(
        settings.known_hosts,
        [PathBuf::from("/srv/kh1"), "/srv/kh2".into()]
    );
    assert_eq!(settings.label, "web");
}

#[tokio::test]
async fn the_real_ssh_tells_of_jumps_and_of_errors() {
    let jump = from_config("web", "Host web\n ProxyJump bastion\n").await;
    assert!(matches!(
        jump,
        Err(TransportError::UnsupportedSetting {
            setting: "proxyjump",
            ..
        })
    ));
    let broken = from_config("web", "Nonsense yes\n").await;
    let Err(TransportError::Settings { detail, .. }) = broken else {
        panic!("{broken:?}");
    };
    assert!(detail.contains("nonsense"), "{detail}");
}

#[tokio::test]
async fn without_ssh_a_configuration_is_not_passed_over() {
    let home = tempfile::tempdir().unwrap();
    let caller = Caller {
        home: Some(home.path().to_owned()),
        ssh_program: "/nonexistent/ssh".into(),
        ..caller()
    };
    assert!(resolve(&SshTarget::new("web"), &caller).await.is_ok());

    std::fs::create_dir(home.path().join(".ssh")).unwrap();
    std::fs::write(home.path().join(".ssh/config"), "Host web\n").unwrap();
    let refused = resolve(&SshTarget::new("web"), &caller).await;
    assert!(
        matches!(refused, Err(TransportError::Settings { .. })),
        "{refused:?}"
    );

    let complete = SshTarget {
        user: Some("deploy".into()),
        host: "web".into(),
        port: Some(22),
        identity_file: Some("/key".into()),
        known_hosts: Some("/kh".into()),
    };
    assert!(resolve(&complete, &caller).await.is_ok());
}
