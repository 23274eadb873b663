//! Commits and work trees, read through real git.
#![allow(clippy::unwrap_used)]

mod common;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use common::{COMPLETE, Project, git, names, refused};
use relstore_builder::{BuildError, SourceSpec};

const LFS: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n";

#[tokio::test]
async fn commit_is_read_from_objects_not_from_the_work_tree() {
    let project = Project::committed();
    project.write("app/Models/User.php", "changed");
    project.write("app/New.php", "new");
    std::fs::remove_file(project.at("artisan")).unwrap();
    let prepared = project.prepare(project.head()).await.unwrap();
    let tree = prepared.tree();
    assert_eq!(
        std::fs::read(tree.join("app/Models/User.php")).unwrap(),
        b"<?php\n"
    );
    assert!(!tree.join("app/New.php").exists());
    let modes = common::entries(&tree);
    assert!(modes.contains(&("artisan".to_owned(), 0o755)), "{modes:?}");
    assert!(modes.contains(&("public/index.php".to_owned(), 0o644)));
    assert_eq!(
        std::fs::read_link(tree.join("public/storage"))
            .unwrap()
            .to_str(),
        Some("../storage/app/public")
    );
}

#[tokio::test]
async fn attributes_of_git_change_nothing() {
    let project = Project::committed();
    project.write(
        ".gitattributes",
        "app export-ignore\nconfig/app.php export-subst\n",
    );
    project.write("config/app.php", "$Format:%H$");
    project.commit();
    let prepared = project.prepare(project.head()).await.unwrap();
    let tree = prepared.tree();
    assert!(tree.join("app/Models/User.php").exists());
    assert_eq!(
        std::fs::read(tree.join("config/app.php")).unwrap(),
        b"$Format:%H$"
    );
}

#[tokio::test]
async fn replaced_objects_are_not_followed() {
    let project = Project::committed();
    let first = project.git(&["rev-parse", "HEAD"]);
    project.write("app/Second.php", "2");
    let second = project.commit();
    project.git(&["replace", &first, &second]);
    let request = project.request(SourceSpec::Commit(first));
    let prepared = project.prepare(request).await.unwrap();
    assert!(!prepared.tree().join("app/Second.php").exists());
}

#[tokio::test]
async fn names_of_any_bytes_and_large_files_come_through() {
    let project = Project::committed();
    let odd = OsStr::from_bytes(b"app/a b\n\"\xff\\.php");
    let large = vec![b'x'; 3 << 20];
    std::fs::write(project.at("").join(odd), "odd").unwrap();
    std::fs::write(project.at("app/large"), &large).unwrap();
    project.write("app/empty", "");
    symlink("large", project.at("app/link")).unwrap();
    project.commit();
    for source in [SourceSpec::Commit("main".into()), SourceSpec::WorkTree] {
        let prepared = project.prepare(project.request(source)).await.unwrap();
        let tree = prepared.tree();
        assert_eq!(std::fs::read(tree.join(odd)).unwrap(), b"odd");
        assert_eq!(std::fs::read(tree.join("app/large")).unwrap(), large);
        assert_eq!(std::fs::read(tree.join("app/empty")).unwrap(), b"");
        assert_eq!(
            std::fs::read_link(tree.join("app/link")).unwrap().to_str(),
            Some("large")
        );
    }
}

#[tokio::test]
async fn shallow_clone_and_bare_repository_are_enough() {
    let project = Project::committed();
    project.write("app/Second.php", "2");
    project.commit();
    let root = project.root.path();
    let origin = format!("file://{}", project.at("").display());
    git(root, &["clone", "-q", "--depth", "1", &origin, "shallow"]);
    git(root, &["clone", "-q", "--bare", &origin, "bare"]);
    let expected = names(&project.prepare(project.head()).await.unwrap().tree());
    for clone in ["shallow", "bare"] {
        let mut request = project.head();
        request.project = root.join(clone);
        let prepared = project.prepare(request.clone()).await.unwrap();
        assert_eq!(names(&prepared.tree()), expected, "{clone}");
        request.source = SourceSpec::Commit("HEAD~1".into());
        let older = project.prepare(request).await;
        match clone {
            "bare" => assert!(!older.unwrap().tree().join("app/Second.php").exists()),
            _ => assert!(matches!(older, Err(BuildError::NoCommit { .. }))),
        }
    }
}

#[tokio::test]
async fn project_in_a_folder_of_a_repository_is_taken_alone() {
    let project = Project::new(&[("frontend/x.js", ""), ("README.md", "")]);
    for (name, content) in COMPLETE {
        project.write(&format!("back end/{name}"), content);
    }
    project.git(&["init", "-q"]);
    project.commit();
    project.write("back end/app/New.php", "");
    for (source, new) in [
        (SourceSpec::Commit("HEAD".into()), false),
        (SourceSpec::WorkTree, true),
    ] {
        let mut request = project.request(source);
        request.project = project.at("back end");
        let names = names(&project.prepare(request).await.unwrap().tree());
        assert!(names.contains(&"artisan".to_owned()));
        assert!(
            !names
                .iter()
                .any(|name| name.contains("README") || name.contains("frontend"))
        );
        assert_eq!(names.contains(&"app/New.php".to_owned()), new);
    }
    std::fs::create_dir(project.at("later")).unwrap();
    let mut request = project.head();
    request.project = project.at("later");
    assert!(matches!(
        project.prepare(request).await,
        Err(BuildError::NoPrefix { prefix, .. }) if prefix == "later/"
    ));
}

#[tokio::test]
async fn lfs_pointers_are_refused_where_they_would_be_released() {
    let project = Project::committed();
    project.write("public/logo.png", LFS);
    project.write("tests/logo.png", LFS);
    project.commit();
    for source in [SourceSpec::Commit("HEAD".into()), SourceSpec::WorkTree] {
        let mut request = project.request(source);
        let refused = refused(project.prepare(request.clone()).await);
        assert_eq!(refused.len(), 1);
        assert_eq!(refused[0].0, "public/logo.png");
        assert!(refused[0].1.contains("Git LFS") && refused[0].1.contains("git lfs pull"));
        request.exclude = vec!["public/*.png".to_owned()];
        project.prepare(request).await.unwrap();
    }
}

/// A project with the submodule `lib/outer`, called `lib.path`, that has one itself.
fn with_submodules() -> (Project, [Project; 2]) {
    let (inner, outer) = (
        Project::new(&[("deep.php", "3")]),
        Project::new(&[("a.php", "2")]),
    );
    inner.git(&["init", "-q"]);
    inner.commit();
    outer.git(&["init", "-q"]);
    let origin = inner.at("").display().to_string();
    outer.git(&["submodule", "--quiet", "add", &origin, "in ner"]);
    outer.commit();
    let project = Project::committed();
    let origin = outer.at("").display().to_string();
    project.git(&[
        "submodule",
        "--quiet",
        "add",
        "--name",
        "lib.path",
        &origin,
        "lib/outer",
    ]);
    project.git(&["submodule", "--quiet", "update", "--init", "--recursive"]);
    project.commit();
    (project, [inner, outer])
}

fn in_lib(names: Vec<String>) -> Vec<String> {
    names
        .into_iter()
        .filter(|name| name.starts_with("lib/"))
        .collect()
}

#[tokio::test]
async fn submodules_come_along_at_the_recorded_commit_and_as_deep_as_they_go() {
    let (project, _origins) = with_submodules();
    // What is checked out there later is the work tree's, not the commit's.
    project.write("lib/outer/a.php", "changed");
    project.write("lib/outer/new.php", "");
    let all = [".gitmodules", "a.php", "in ner/deep.php"].map(|name| format!("lib/outer/{name}"));
    let prepared = project.prepare(project.head()).await.unwrap();
    assert_eq!(in_lib(names(&prepared.tree())), all);
    let read = |tree: &std::path::Path| std::fs::read(tree.join("lib/outer/a.php")).unwrap();
    assert_eq!(read(&prepared.tree()), b"2");

    let work_tree = project.request(SourceSpec::WorkTree);
    let prepared = project.prepare(work_tree.clone()).await.unwrap();
    let mut with_new = all.to_vec();
    with_new.push("lib/outer/new.php".to_owned());
    assert_eq!(in_lib(names(&prepared.tree())), with_new);
    assert_eq!(read(&prepared.tree()), b"changed");

    // Git's own copy of the objects is enough for a commit, the work tree needs its files.
    std::fs::remove_dir_all(project.at("lib/outer")).unwrap();
    let prepared = project.prepare(project.head()).await.unwrap();
    assert_eq!(in_lib(names(&prepared.tree())), all);
    let error = project.prepare(work_tree).await.unwrap_err();
    assert!(matches!(&error, BuildError::NoSubmodule { path, .. } if path == "lib/outer"));
}

#[tokio::test]
async fn submodule_that_is_not_in_the_clone_is_named_with_the_remedy() {
    let (project, _origins) = with_submodules();
    let root = project.root.path();
    let origin = project.at("").display().to_string();
    git(root, &["clone", "-q", &origin, "clone"]);
    for source in [SourceSpec::Commit("HEAD".into()), SourceSpec::WorkTree] {
        let mut request = project.request(source);
        request.project = root.join("clone");
        let error = project.prepare(request.clone()).await.unwrap_err();
        assert!(
            matches!(&error, BuildError::NoSubmodule { path, .. } if path == "lib/outer"),
            "{error}"
        );
        assert!(
            error
                .hint()
                .unwrap()
                .contains("git submodule update --init")
        );
        request.exclude = vec!["lib".to_owned()];
        project.prepare(request).await.unwrap();
    }
    git(
        &root.join("clone"),
        &["submodule", "--quiet", "update", "--init"],
    );
    let mut request = project.head();
    request.project = root.join("clone");
    let error = project.prepare(request).await.unwrap_err();
    assert!(
        matches!(&error, BuildError::NoSubmodule { path, .. } if path == "lib/outer/in ner"),
        "{error}"
    );
}

#[tokio::test]
async fn submodule_of_a_project_in_a_folder_of_its_repository_is_found() {
    let lib = Project::new(&[("a.php", "1")]);
    lib.git(&["init", "-q"]);
    lib.commit();
    let project = Project::new(&[]);
    project.git(&["init", "-q"]);
    for (name, content) in COMPLETE {
        project.write(&format!("apps/api/{name}"), content);
    }
    let origin = lib.at("").display().to_string();
    project.git(&["submodule", "--quiet", "add", &origin, "apps/api/lib"]);
    project.commit();
    for source in [SourceSpec::Commit("HEAD".into()), SourceSpec::WorkTree] {
        let mut request = project.request(source);
        request.project = project.at("apps/api");
        let prepared = project.prepare(request).await.unwrap();
        assert_eq!(in_lib(names(&prepared.tree())), ["lib/a.php"]);
    }
}

#[tokio::test]
async fn file_that_is_written_while_it_is_copied_is_an_error() {
    use std::io::Write;
    use std::sync::atomic::{AtomicBool, Ordering};
    let project = Project::committed();
    project.write("app/log.txt", &"x".repeat(1 << 20));
    let stop = std::sync::Arc::new(AtomicBool::new(false));
    let (path, stopped) = (project.at("app/log.txt"), stop.clone());
    let writer = std::thread::spawn(move || {
        let mut file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
        while !stopped.load(Ordering::Relaxed) {
            file.write_all(b"more").unwrap();
        }
    });
    // On a busy machine the writer may rest while the file is copied.
    let mut error = None;
    for _ in 0..100 {
        let prepared = project.prepare(project.request(SourceSpec::WorkTree)).await;
        error = prepared.err();
        if error.is_some() {
            break;
        }
    }
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    let error = error.unwrap();
    assert!(
        matches!(&error, BuildError::Changed { path } if path.ends_with("app/log.txt")),
        "{error}"
    );
    assert!(error.hint().is_some());
    assert!(
        !project
            .scratch()
            .join("builds")
            .read_dir()
            .unwrap()
            .any(|_| true)
    );
}

#[tokio::test]
async fn links_that_leave_are_refused() {
    let project = Project::committed();
    symlink("/etc/passwd", project.at("app/absolute")).unwrap();
    symlink("../../x", project.at("config/out")).unwrap();
    project.commit();
    let refused = refused(project.prepare(project.head()).await);
    let paths: Vec<&str> = refused.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, ["app/absolute", "config/out"]);
}

#[tokio::test]
async fn dotenv_is_never_copied_and_its_example_always() {
    let project = Project::committed();
    for name in [
        ".env",
        ".env.production",
        "modules/a/.env.local",
        ".env.example",
    ] {
        project.write(name, "APP_KEY=s3ntinel\n");
    }
    project.commit();
    for source in [SourceSpec::Commit("HEAD".into()), SourceSpec::WorkTree] {
        let prepared = project.prepare(project.request(source)).await.unwrap();
        let names = names(&prepared.tree());
        let found: Vec<&String> = names.iter().filter(|name| name.contains(".env")).collect();
        assert_eq!(found, [".env.example"]);
        // Not in the folder of the steps either.
        assert!(!prepared.tree().join("../build/.env").exists());
    }
}

#[tokio::test]
async fn work_tree_is_what_git_does_not_ignore() {
    let project = Project::committed();
    project.write(".gitignore", "/public/uploads\n*.log\n");
    project.commit();
    project.write("app/New.php", "new");
    project.write("app/Models/User.php", "changed");
    project.write("public/uploads/a.jpg", "ignored");
    project.write("app/x.log", "ignored");
    project.mode("app/New.php", 0o700);
    std::fs::remove_file(project.at("routes/web.php")).unwrap();
    project.write("routes/api.php", "");
    let prepared = project
        .prepare(project.request(SourceSpec::WorkTree))
        .await
        .unwrap();
    let tree = prepared.tree();
    assert_eq!(
        std::fs::read(tree.join("app/Models/User.php")).unwrap(),
        b"changed"
    );
    let entries = common::entries(&tree);
    assert!(entries.contains(&("app/New.php".to_owned(), 0o755)));
    for gone in ["public/uploads", "app/x.log", "routes/web.php"] {
        assert!(!tree.join(gone).exists(), "{gone}");
    }
    project.write("lib/nested/x.php", "");
    git(&project.at("lib/nested"), &["init", "-q"]);
    let refused = refused(project.prepare(project.request(SourceSpec::WorkTree)).await);
    assert_eq!(refused[0].0, "lib/nested");
}

#[tokio::test]
async fn folder_without_git_is_walked_without_what_users_left_in_storage() {
    let project = Project::new(&COMPLETE);
    project.write("storage/logs/laravel.log", "secret of a visitor");
    project.write("storage/logs/.gitignore", "*\n");
    project.write("node_modules/vite/x.js", "");
    project.write("storage-tools/x.php", "");
    symlink(
        "/home/me/app/storage/app/public",
        project.at("public/storage"),
    )
    .unwrap();
    let names = names(
        &project
            .prepare(project.request(SourceSpec::WorkTree))
            .await
            .unwrap()
            .tree(),
    );
    let storage: Vec<&String> = names
        .iter()
        .filter(|name| name.starts_with("storage"))
        .collect();
    assert_eq!(storage, ["storage/logs/.gitignore", "storage-tools/x.php"]);
    assert!(!names.iter().any(|name| name.contains("node_modules")));
    assert!(matches!(
        project.prepare(project.head()).await,
        Err(BuildError::NoRepository { .. })
    ));
}

#[tokio::test]
async fn names_that_are_no_commit_are_refused_and_never_options() {
    let project = Project::committed();
    for name in [
        "nothing",
        "--help",
        "-1",
        "",
        "main:app",
        "HEAD\nHEAD",
        "HEAD^{tree}",
    ] {
        let request = project.request(SourceSpec::Commit(name.to_owned()));
        let result = project.prepare(request).await;
        assert!(
            matches!(result, Err(BuildError::NoCommit { .. })),
            "{name:?}"
        );
    }
    let empty = Project::new(&[]);
    empty.git(&["init", "-q"]);
    assert!(matches!(
        empty.prepare(empty.head()).await,
        Err(BuildError::NoCommit { .. })
    ));
}

#[tokio::test]
async fn repository_of_somebody_else_needs_the_users_trust() {
    let project = Project::committed();
    // Only root can give a folder away; others cannot meet their own repository as a stranger's.
    if std::os::unix::fs::chown(project.at(""), Some(12_345), None).is_err() {
        return;
    }
    let mut request = project.head();
    let error = project.prepare(request.clone()).await.unwrap_err();
    assert!(matches!(error, BuildError::Ownership { .. }), "{error}");
    assert!(error.hint().unwrap().contains("safe.directory"));
    let home = project.root.path().join("home");
    std::fs::create_dir(&home).unwrap();
    let trust = format!("[safe]\ndirectory = {}\n", project.at("").display());
    std::fs::write(
        home.join(".gitconfig"),
        trust.replace("project/", "project"),
    )
    .unwrap();
    request.home = Some(home);
    project.prepare(request).await.unwrap();
}

#[tokio::test]
async fn missing_git_is_named() {
    let project = Project::committed();
    let mut request = project.head();
    request.search_path = project.programs(&[]);
    let error = project.prepare(request).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "`git` is not installed, reading the source needs it"
    );
    assert!(error.hint().unwrap().contains("apt install git"));
}

/// A commit of a tree with the entry `l` twice: a link to `outside`, and a folder with a link.
fn commit_with_a_link_and_a_folder_of_one_name(project: &Project, outside: &str) -> String {
    let blob = |text: &str| {
        std::fs::write(project.root.path().join("target"), text).unwrap();
        project.git(&["hash-object", "-w", "../target"])
    };
    let raw = |id: &str| -> Vec<u8> {
        (0..20)
            .map(|at| u8::from_str_radix(&id[2 * at..2 * at + 2], 16).unwrap())
            .collect()
    };
    let tree = |entries: &[(&str, &str)]| {
        let mut bytes = Vec::new();
        for (name, id) in entries {
            bytes.extend_from_slice(name.as_bytes());
            bytes.push(0);
            bytes.extend_from_slice(&raw(id));
        }
        std::fs::write(project.root.path().join("tree"), bytes).unwrap();
        project.git(&["hash-object", "-t", "tree", "--literally", "-w", "../tree"])
    };
    let inner = tree(&[("120000 x", &blob("y"))]);
    let link = blob(outside);
    let top = tree(&[("120000 l", &link), ("40000 l", &inner)]);
    project.git(&["commit-tree", "-m", "x", &top])
}

#[tokio::test]
async fn nothing_is_written_through_a_link_of_the_source() {
    let project = Project::committed();
    let outside = project.root.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let commit = commit_with_a_link_and_a_folder_of_one_name(&project, outside.to_str().unwrap());
    let told = project
        .prepare(project.request(SourceSpec::Commit(commit)))
        .await;
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    assert_eq!(refused(told)[0].0, "l/x");
}

#[tokio::test]
async fn tracked_files_behind_a_link_are_gone_as_git_says() {
    let project = Project::committed();
    project.write("docs/a.txt", "tracked");
    project.write(".gitignore", "/docs\n");
    project.commit();
    let outside = project.root.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("a.txt"), "of another project").unwrap();
    std::fs::remove_dir_all(project.at("docs")).unwrap();
    symlink(&outside, project.at("docs")).unwrap();
    let prepared = project
        .prepare(project.request(SourceSpec::WorkTree))
        .await
        .unwrap();
    assert!(!prepared.tree().join("docs").exists());
}
