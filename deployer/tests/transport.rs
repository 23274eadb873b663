//! Transports against a real sshd, a real agent and this machine's own processes.
#![cfg(feature = "client")]
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "transport/line.rs"]
mod line;
#[path = "transport/sshd.rs"]
mod sshd;
#[path = "transport/store.rs"]
mod store;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use relstore_deployer::transport::{
    self, Caller, Channel, Endpoint, HelperBinary, SshTarget, TransportError,
};
use sshd::{Agent, Sshd, caller, fingerprint, free_port, keygen, program};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn helper() -> HelperBinary {
    HelperBinary::load(env!("CARGO_BIN_EXE_relstore-host")).unwrap()
}

/// A program that returns every byte: what the helper would do with them is not a transport's
/// business.
fn echo(folder: &Path) -> HelperBinary {
    let path = folder.join("echo");
    program(
        &path,
        "#!/bin/sh\nprintf '\\0relstore-host\\0'\necho started >&2\nexec cat\n",
    );
    HelperBinary::load(path).unwrap()
}

async fn open(server: &Sshd, helper: &HelperBinary) -> Result<Channel, TransportError> {
    transport::open(&server.endpoint(), &server.base(), helper, &caller()).await
}

async fn refused(endpoint: SshTarget, base: &str, caller: &Caller) -> TransportError {
    let endpoint = Endpoint::Ssh(endpoint);
    let error = transport::open(&endpoint, base, &helper(), caller)
        .await
        .unwrap_err();
    assert!(!error.hint().is_empty());
    assert!(
        !Path::new(base).exists(),
        "a refused connection left {base}"
    );
    error
}

/// Reads the helper's first frame and ends it.
async fn greet(mut channel: Channel) {
    let mut length = [0; 4];
    channel.reader.read_exact(&mut length).await.unwrap();
    let mut frame = vec![0; usize::try_from(u32::from_le_bytes(length)).unwrap()];
    channel.reader.read_exact(&mut frame).await.unwrap();
    let number = u16::from_le_bytes([frame[0], frame[1]]);
    assert_eq!(
        number,
        <relstore_deployer::protocol::Hello as relstore_deployer::protocol::Body>::NUMBER
    );
    let exit = channel.finish().await.unwrap();
    assert!(exit.success(), "{exit}");
}

#[tokio::test]
async fn the_helper_is_copied_once_and_then_only_started() {
    let server = Sshd::start();
    let helper = helper();
    let first = open(&server, &helper).await.unwrap();
    assert!(first.link.installed_helper());
    assert!(first.link.traffic().wire_sent_bytes > helper.bytes.len() as u64);
    greet(first).await;

    let second = open(&server, &helper).await.unwrap();
    assert!(!second.link.installed_helper());
    assert!(
        second.link.traffic().wire_sent_bytes < 16 << 10,
        "{:?}",
        second.link.traffic()
    );
    greet(second).await;

    let folder = format!("{}/.relstore/helper/{}", server.base(), helper.sha256);
    let names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["relstore-host"], "no temporary file stays");
}

#[tokio::test]
async fn a_damaged_helper_is_replaced() {
    let server = Sshd::start();
    let helper = helper();
    greet(open(&server, &helper).await.unwrap()).await;
    let path = format!(
        "{}/.relstore/helper/{}/relstore-host",
        server.base(),
        helper.sha256
    );
    for damage in [&b""[..], b"\x7fELF cut off"] {
        fs::write(&path, damage).unwrap();
        let channel = open(&server, &helper).await.unwrap();
        assert!(channel.link.installed_helper());
        greet(channel).await;
    }
}

#[tokio::test]
async fn two_that_copy_the_helper_at_once_both_succeed() {
    let server = Sshd::start();
    let helper = helper();
    let (one, other) = tokio::join!(open(&server, &helper), open(&server, &helper));
    greet(one.unwrap()).await;
    greet(other.unwrap()).await;
}

#[tokio::test]
async fn bytes_pass_unchanged_and_counted_in_both_directions_at_once() {
    let server = Sshd::start();
    let helper = echo(server.folder.path());
    let Channel {
        mut reader,
        mut writer,
        link,
    } = open(&server, &helper).await.unwrap();
    let sent: Vec<u8> = (0..30_000_000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let copy = sent.clone();
    let write = tokio::spawn(async move {
        writer.write_all(&copy).await.unwrap();
        writer.shutdown().await.unwrap();
    });
    let mut received = Vec::new();
    // The end of the input must get through while the connection is full in both directions.
    let read = reader.read_to_end(&mut received);
    tokio::time::timeout(Duration::from_secs(60), read)
        .await
        .unwrap()
        .unwrap();
    write.await.unwrap();
    assert!(
        received == sent,
        "{} of {} bytes",
        received.len(),
        sent.len()
    );
    let traffic = link.traffic();
    assert_eq!(traffic.sent_bytes, 30_000_000);
    assert_eq!(
        traffic.received_bytes,
        30_000_000 + transport::MAGIC.len() as u64
    );
    assert!(traffic.wire_sent_bytes > 30_000_000 && traffic.wire_received_bytes > 30_000_000);
    assert_eq!(link.stderr(), "started");
    assert!(link.finish().await.unwrap().success());
}

#[tokio::test]
async fn a_reader_that_waits_holds_the_far_side_back_and_dropping_it_closes_the_connection() {
    let server = Sshd::start();
    let path = server.path("flood");
    program(
        &path,
        "#!/bin/sh\nprintf '\\0relstore-host\\0'\nexec cat /dev/zero\n",
    );
    let helper = HelperBinary::load(path).unwrap();
    let channel = open(&server, &helper).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let received = channel.link.traffic().wire_received_bytes;
    assert!(received < 32 << 20, "{received} bytes arrived unread");

    assert_eq!(server.connections().len(), 1);
    drop(channel);
    let begun = Instant::now();
    while !server.connections().is_empty() {
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "the connection stays"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_writer_that_gives_up_under_a_flood_still_ends_the_input() {
    let server = Sshd::start();
    let script = "#!/bin/sh\nprintf '\\0relstore-host\\0'\nhead -c 30000000 /dev/zero\n\
                  cat >/dev/null\necho all read\n";
    program(&server.path("flood"), script);
    let helper = HelperBinary::load(server.path("flood")).unwrap();
    let Channel {
        mut reader,
        mut writer,
        link,
    } = open(&server, &helper).await.unwrap();
    let write = async { while writer.write_all(&[1; 32 << 10]).await.is_ok() {} };
    let gave_up = tokio::time::timeout(Duration::from_secs(1), write).await;
    assert!(gave_up.is_err(), "nothing held the writer back");
    drop(writer);
    let mut received = Vec::new();
    let read = reader.read_to_end(&mut received);
    tokio::time::timeout(Duration::from_secs(20), read)
        .await
        .unwrap()
        .unwrap();
    assert!(received.ends_with(b"all read\n"));
    assert!(link.finish().await.unwrap().success());
}

#[tokio::test]
async fn a_changed_host_key_is_refused_and_both_keys_and_the_line_are_shown() {
    let server = Sshd::start();
    keygen(&server.path("old_key"));
    let old = fs::read_to_string(server.path("old_key.pub")).unwrap();
    let entry = format!("# hosts\n[127.0.0.1]:{} {old}", server.port);
    fs::write(server.path("known_hosts"), entry).unwrap();
    let error = refused(server.target(), &server.base(), &caller()).await;
    assert!(
        matches!(error, TransportError::HostKeyChanged { .. }),
        "{error:?}"
    );
    let text = error.to_string();
    assert!(
        text.contains(&fingerprint(&server.path("host_key.pub"))),
        "{text}"
    );
    assert!(
        text.contains(&fingerprint(&server.path("old_key.pub"))),
        "{text}"
    );
    let file = server.path("known_hosts").display().to_string();
    assert!(text.contains(&format!("{file} line 2")), "{text}");
    assert!(error.hint().contains("ssh-keygen -R"), "{}", error.hint());
}

#[tokio::test]
async fn an_unknown_host_key_is_refused_and_shown() {
    let server = Sshd::start();
    fs::remove_file(server.path("known_hosts")).unwrap();
    let error = refused(server.target(), &server.base(), &caller()).await;
    assert!(
        matches!(error, TransportError::HostKeyUnknown { .. }),
        "{error:?}"
    );
    assert!(
        error
            .to_string()
            .contains(&fingerprint(&server.path("host_key.pub"))),
        "{error}"
    );
    let scan = format!("ssh-keyscan -p {} 127.0.0.1", server.port);
    assert!(error.hint().contains(&scan), "{}", error.hint());
}

#[tokio::test]
async fn a_revoked_host_key_is_refused() {
    let server = Sshd::start();
    let known = fs::read_to_string(server.path("known_hosts")).unwrap();
    let key = fs::read_to_string(server.path("host_key.pub")).unwrap();
    fs::write(
        server.path("known_hosts"),
        format!("{known}@revoked * {key}"),
    )
    .unwrap();
    let error = refused(server.target(), &server.base(), &caller()).await;
    assert!(
        matches!(error, TransportError::HostKeyRevoked { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn hashed_names_and_settings_of_the_ssh_configuration_lead_to_the_host() {
    let server = Sshd::start();
    let hash = std::process::Command::new("ssh-keygen")
        .args(["-q", "-Hf"])
        .arg(server.path("known_hosts"))
        .output()
        .unwrap();
    assert!(hash.status.success());
    let config = format!(
        "Host web\n HostName 127.0.0.1\n Port {}\n IdentityFile {}\n UserKnownHostsFile {}\n",
        server.port,
        server.path("user_key").display(),
        server.path("known_hosts").display()
    );
    fs::write(server.path("config"), config).unwrap();
    let caller = Caller {
        ssh_config: Some(server.path("config")),
        ..caller()
    };
    let endpoint = Endpoint::Ssh(SshTarget::new("web"));
    let channel = transport::open(&endpoint, &server.base(), &helper(), &caller)
        .await
        .unwrap();
    assert_eq!(channel.link.host(), "web");
    greet(channel).await;
}

#[tokio::test]
async fn a_key_that_the_host_does_not_know_is_named() {
    let server = Sshd::start();
    keygen(&server.path("stranger"));
    let target = SshTarget {
        identity_file: Some(server.path("stranger")),
        ..server.target()
    };
    let error = refused(target, &server.base(), &caller()).await;
    let TransportError::AuthRefused { tried, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(tried.len(), 1);
    assert_eq!(
        tried[0].origin,
        server.path("stranger").display().to_string()
    );
    assert_eq!(
        tried[0].fingerprint,
        Some(fingerprint(&server.path("stranger.pub")))
    );
}

#[tokio::test]
async fn a_missing_key_is_named() {
    let server = Sshd::start();
    let target = SshTarget {
        identity_file: Some(server.path("nothing")),
        ..server.target()
    };
    let error = refused(target, &server.base(), &caller()).await;
    assert!(
        matches!(error, TransportError::NoUsableKey { .. }),
        "{error:?}"
    );
    assert!(
        error.to_string().contains("nothing: does not exist"),
        "{error}"
    );
}

#[tokio::test]
async fn the_agent_logs_in_and_stands_in_for_an_encrypted_file() {
    let server = Sshd::start();
    let agent = Agent::holding(&server.path("user_key"));
    let encrypt = std::process::Command::new("ssh-keygen")
        .args(["-q", "-p", "-P", "", "-N", "a passphrase", "-f"])
        .arg(server.path("user_key"))
        .status()
        .unwrap();
    assert!(encrypt.success());
    let with_agent = Caller {
        agent_socket: Some(agent.socket()),
        ..caller()
    };

    let error = refused(server.target(), &server.base(), &caller()).await;
    assert!(error.to_string().contains("ssh-add"), "{error}");

    let any_key = SshTarget {
        identity_file: None,
        ..server.target()
    };
    for target in [any_key, server.target()] {
        let endpoint = Endpoint::Ssh(target);
        let channel = transport::open(&endpoint, &server.base(), &helper(), &with_agent).await;
        greet(channel.unwrap()).await;
    }
}

#[tokio::test]
async fn an_agent_with_other_keys_only_is_reported_with_their_comments() {
    let server = Sshd::start();
    keygen(&server.path("stranger"));
    let agent = Agent::holding(&server.path("stranger"));
    let caller = Caller {
        agent_socket: Some(agent.socket()),
        ..caller()
    };
    let target = SshTarget {
        identity_file: None,
        ..server.target()
    };
    let error = refused(target, &server.base(), &caller).await;
    assert!(
        error.to_string().contains("agent: made by a test (SHA256:"),
        "{error}"
    );
}

#[tokio::test]
async fn a_host_that_is_down_is_told_at_once() {
    let server = Sshd::start();
    let target = SshTarget {
        port: Some(free_port()),
        ..server.target()
    };
    let begun = Instant::now();
    let error = refused(target, &server.base(), &caller()).await;
    assert!(matches!(error, TransportError::Connect { .. }), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_port_without_an_answer_or_with_another_service_is_told() {
    let server = Sshd::start();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = SshTarget {
        port: Some(listener.local_addr().unwrap().port()),
        ..server.target()
    };
    let mut caller = caller();
    caller.limits.connect = Duration::from_millis(500);
    let error = refused(target.clone(), &server.base(), &caller).await;
    assert!(matches!(error, TransportError::Stalled { .. }), "{error:?}");

    let serve = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let error = refused(target, &server.base(), &caller).await;
    assert!(
        matches!(error, TransportError::Handshake { .. }),
        "{error:?}"
    );
    serve.abort();
}

#[tokio::test]
async fn a_shell_that_prints_does_no_harm() {
    let server = Sshd::with_shell("echo 'Welcome to this host!'; echo noise >&2\n");
    let first = open(&server, &helper()).await.unwrap();
    assert!(first.link.installed_helper());
    greet(first).await;
    greet(open(&server, &helper()).await.unwrap()).await;
}

#[tokio::test]
async fn a_shell_that_prints_without_end_is_named() {
    let server = Sshd::with_shell("exec yes 'Welcome!'\n");
    let error = open(&server, &helper()).await.unwrap_err();
    let TransportError::ShellNoise { text, .. } = &error else {
        panic!("{error:?}");
    };
    assert!(text.starts_with("Welcome!\nWelcome!"), "{text}");
}

#[tokio::test]
async fn a_shell_that_hangs_or_runs_nothing_is_named() {
    let server = Sshd::with_shell("echo 'Your name?'; read name\n");
    let mut caller = caller();
    caller.limits.idle = Duration::from_secs(1);
    let error = refused(server.target(), &server.base(), &caller).await;
    assert!(matches!(error, TransportError::Stalled { .. }), "{error:?}");
    assert!(error.to_string().contains("Your name?"), "{error}");

    let server = Sshd::with_shell("echo 'This account is closed.'; exit 1\n");
    let error = refused(server.target(), &server.base(), &self::caller()).await;
    assert!(
        matches!(error, TransportError::ShellRefuses { .. }),
        "{error:?}"
    );
    let text = error.to_string();
    assert!(
        text.contains("This account is closed.") && text.contains("exit status 1"),
        "{text}"
    );
}

#[tokio::test]
async fn a_base_that_cannot_be_made_is_named_with_the_hosts_own_words() {
    let server = Sshd::start();
    fs::write(server.path("file"), "").unwrap();
    let base = format!("{}/base", server.path("file").display());
    let error = refused(server.target(), &base, &caller()).await;
    assert!(
        matches!(error, TransportError::BaseUnwritable { .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("Not a directory"), "{error}");
}

#[tokio::test]
async fn a_host_without_sha256sum_is_named() {
    let server = Sshd::with_shell("PATH=$(dirname \"$BASH_ENV\")/bin\n");
    fs::create_dir(server.path("bin")).unwrap();
    std::os::unix::fs::symlink("/bin/sh", server.path("bin/sh")).unwrap();
    let error = refused(server.target(), &server.base(), &caller()).await;
    assert!(
        matches!(error, TransportError::NoSha256sum { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_full_disk_is_named_while_the_helper_is_still_sent() {
    // As cat does it: some bytes are written, then it ends with the kernel's reason.
    let server = Sshd::with_shell("PATH=$(dirname \"$BASH_ENV\")/bin:$PATH\n");
    fs::create_dir(server.path("bin")).unwrap();
    let cat = "#!/bin/sh\necho 'cat: write error: No space left on device' >&2\nexit 1\n";
    program(&server.path("bin/cat"), cat);
    let mut large = b"#!/bin/sh\n".to_vec();
    large.resize(20_000_000, b'\n');
    program(&server.path("large"), large);
    let helper = HelperBinary::load(server.path("large")).unwrap();
    let error = open(&server, &helper).await.unwrap_err();
    assert!(
        matches!(error, TransportError::DiskFull { .. }),
        "{error:?}"
    );
    let folder = format!("{}/.relstore/helper/{}", server.base(), helper.sha256);
    assert_eq!(
        fs::read_dir(folder).unwrap().count(),
        0,
        "nothing half written stays"
    );
}

#[tokio::test]
async fn a_helper_for_another_machine_is_refused_before_it_is_sent() {
    let server = Sshd::start();
    let mut head = b"\x7fELF\x02\x02\x01".to_vec();
    head.resize(18, 0);
    head.extend([0, 22]);
    head.resize(5_000_000, 0);
    program(&server.path("foreign"), head);
    let helper = HelperBinary::load(server.path("foreign")).unwrap();
    let error = open(&server, &helper).await.unwrap_err();
    assert!(
        matches!(error, TransportError::WrongArchitecture { .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("s390x"), "{error}");
    let folder = format!("{}/.relstore/helper/{}", server.base(), helper.sha256);
    assert_eq!(fs::read_dir(folder).unwrap().count(), 0);
}

#[tokio::test]
async fn a_helper_that_does_not_start_is_named_with_its_words() {
    let server = Sshd::start();
    program(
        &server.path("broken"),
        "#!/bin/sh\necho 'no such library' >&2\nexit 3\n",
    );
    let helper = HelperBinary::load(server.path("broken")).unwrap();
    for _ in 0..2 {
        let error = open(&server, &helper).await.unwrap_err();
        assert!(
            matches!(error, TransportError::HelperDoesNotRun { .. }),
            "{error:?}"
        );
        let text = error.to_string();
        assert!(
            text.contains("exit status 3") && text.contains("no such library"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_lost_connection_is_an_error_and_no_end() {
    let server = Sshd::start();
    let helper = echo(server.folder.path());
    let Channel {
        mut reader,
        mut writer,
        link,
    } = open(&server, &helper).await.unwrap();
    server.cut_connections();
    let error = reader.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    // More than any window holds: such a write must not wait for one.
    let error = writer.write_all(&vec![0; 64 << 20]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
    let error = link.finish().await.unwrap_err();
    assert!(matches!(error, TransportError::Closed { .. }), "{error:?}");
}

#[tokio::test]
async fn dropping_the_channel_ends_the_helper() {
    for ssh in [true, false] {
        let server = Sshd::start();
        let helper = helper();
        let endpoint = if ssh {
            server.endpoint()
        } else {
            Endpoint::Local
        };
        let base = server.base();
        let channel = transport::open(&endpoint, &base, &helper, &caller())
            .await
            .unwrap();
        assert_eq!(running(&base), 1);
        drop(channel);
        let begun = Instant::now();
        while running(&base) > 0 {
            assert!(
                begun.elapsed() < Duration::from_secs(10),
                "the helper stays"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn the_local_helper_lies_in_the_same_place_and_has_a_session_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("base").display().to_string();
    let helper = helper();
    let first = transport::open(&Endpoint::Local, &base, &helper, &caller())
        .await
        .unwrap();
    assert!(first.link.installed_helper());
    let [(pid, session)] = processes(&base)[..] else {
        panic!("not one helper");
    };
    assert_eq!(pid, session);
    greet(first).await;
    assert!(
        Path::new(&format!(
            "{base}/.relstore/helper/{}/relstore-host",
            helper.sha256
        ))
        .exists()
    );

    let second = transport::open(&Endpoint::Local, &base, &helper, &caller())
        .await
        .unwrap();
    assert!(!second.link.installed_helper());
    greet(second).await;
}

#[tokio::test]
async fn a_local_base_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let base = folder.path().join("file/base").display().to_string();
    let error = transport::open(&Endpoint::Local, &base, &helper(), &caller())
        .await
        .unwrap_err();
    assert!(
        matches!(error, TransportError::BaseUnwritable { .. }),
        "{error:?}"
    );
}

/// Process and session ids of the helpers that serve `base`.
fn processes(base: &str) -> Vec<(u32, u32)> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        let command = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let mut arguments = command.split('\0');
        let program = arguments.next().unwrap_or_default();
        if program.starts_with(base) && program.ends_with("/relstore-host") {
            // pid (name) state parent group session ...
            let session = stat
                .rsplit(") ")
                .next()
                .and_then(|rest| rest.split(' ').nth(3));
            found.push((pid, session.unwrap_or("0").parse().unwrap()));
        }
    }
    found
}

fn running(base: &str) -> usize {
    processes(base).len()
}
