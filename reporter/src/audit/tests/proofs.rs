//! The tree over the log: what is stored of it, what a head says of it, and what it proves to who has heads alone.

use super::*;

fn head(number: u64, hash: RecordHash, root: Option<TreeHash>) -> String {
    Head { number, hash, root, at_ms: 3000 + number }.signed(sign_with("key")).line()
}

fn proven(proof: &Proof, heads: &str) -> Result<Proven, Unproven> {
    proof.check(&mut Heads::new(heads.as_bytes()), &genuine)
}

/// Each proof as who has fetched it reads it.
fn fetched(proof: Option<Proof>) -> Proof {
    serde_json::from_value(json!(proof.unwrap())).unwrap()
}

#[test]
fn every_byte_of_the_tree_counts() {
    let (store, heads) = written(16, 4);
    let rows = rows(&store);
    let stored: Vec<usize> =
        (0..rows.len()).filter(|at| branches::read_branch_key(&rows[*at].0).is_some()).collect();
    assert_eq!(stored.len(), 15, "a tree of 16 leaves has as many branches");
    for at in stored {
        let (number, level) = branches::read_branch_key(&rows[at].0).unwrap();
        for byte in 0..32 {
            let mut rows = rows.clone();
            rows[at].1[byte] ^= 1 << (byte % 8);
            assert_eq!(first_bad(rows, &heads), Some(number), "byte {byte} of level {level}");
        }
        for bit in 0..8 {
            let mut rows = rows.clone();
            rows[at].0[9] ^= 1 << bit;
            assert_eq!(first_bad(rows, &heads), Some(number), "bit {bit} of its level");
        }
        let (mut gone, mut longer) = (rows.clone(), rows.clone());
        gone.remove(at);
        longer[at].1.push(0);
        assert_eq!((first_bad(gone, &heads), first_bad(longer, &heads)), (Some(number), Some(number)));
    }
    let tree = rows.iter().position(|(key, _)| key == branches::TREE_KEY).unwrap();
    for (says, first) in [(17, Some(17)), (u64::MAX, Some(17)), (15, None), (0, None)] {
        let mut rows = rows.clone();
        rows[tree].1 = encode_u64(says).to_vec();
        assert_eq!(first_bad(rows, &heads), first, "fewer are made again, more are not there: {says}");
    }
    let (mut cut, mut strange) = (rows.clone(), rows.clone());
    cut[tree].1.pop();
    strange.push(([&record_key(3)[..], &[1]].concat(), vec![0; 32]));
    assert!(first_bad(cut, &heads).is_some());
    assert_eq!(first_bad(strange, &heads), Some(3), "a branch where none is");
}

#[test]
fn a_head_of_another_tree_is_found_and_one_of_before_is_taken() {
    let (store, _) = written(5, 100);
    let end = tip(&Tx::new(&store)).unwrap();
    let root = root_at(&store, 5).unwrap();
    assert!(checked(&store, &head(5, end.hash, Some(root))).is_sound());
    assert!(checked(&store, &head(5, end.hash, None)).is_sound(), "signed before there were trees");
    let verdict = checked(&store, &head(5, end.hash, Some(end.hash)));
    assert_eq!(verdict.fault.unwrap().record, 5);
    let stripped = head(5, end.hash, Some(root)).replace(&format!(r#""root":"{root}","#), "");
    assert_eq!(checked(&store, &stripped).bad_line.unwrap().line, 1, "the root is signed");
}

#[test]
fn a_tree_is_the_same_however_it_grew_and_is_made_anew_when_it_was_forgotten() {
    let (store, _) = written(9000, 10_000);
    let (mut tree, mut roots) = (tree::Growing::default(), vec![tree::Growing::default().root()]);
    for number in 1..=9000 {
        let hash = record(&Tx::new(&store), number).unwrap().unwrap().hash;
        tree.push(tree::leaf(&hash.0));
        roots.push(tree.root());
    }
    for size in [0, 1, 2, 3, 4095, 4096, 4097, 8999, 9000, 9000, 5000, 7] {
        assert_eq!(root_at(&store, size).unwrap(), roots[size as usize], "{size}");
    }
    assert_eq!(branches::stored(&store).unwrap(), 9000);
    assert!(checked(&store, "").is_sound());
    assert!(root_at(&store, 9001).is_err(), "a record that is not there has no tree");

    let made = rows(&store);
    forget_tree(&store).unwrap();
    assert!(checked(&store, "").is_sound(), "half of it there is no fault");
    assert_eq!(root_at(&store, 9000).unwrap(), roots[9000]);
    assert!(rows(&store) == made);
}

#[test]
fn who_has_heads_alone_is_shown_that_a_record_is_in_the_log_and_that_it_only_grew() {
    let (store, heads) = written(40, 1);
    for size in 1..=40 {
        for number in 1..=size {
            let proof = fetched(inclusion(&store, number, size, true).unwrap());
            match proven(&proof, &heads).unwrap() {
                Proven::Included { number: found, head, body } => {
                    let words: Value = serde_json::from_str(&body.unwrap()).unwrap();
                    assert_eq!((found, head.number), (number, size));
                    assert_eq!(words["about"], json!(format!("job {number}")));
                }
                other => panic!("{other:?}"),
            }
            let sealed = fetched(inclusion(&store, number, size, false).unwrap());
            let Proof::Inclusion { body, .. } = &sealed else { panic!("{sealed:?}") };
            assert_eq!(body.is_none(), number.is_multiple_of(5), "child safety data is not told");
            assert!(proven(&sealed, &heads).is_ok());
        }
        for earlier in 1..size {
            let proof = fetched(consistency(&store, earlier, size).unwrap());
            match proven(&proof, &heads).unwrap() {
                Proven::Consistent { earlier: one, later } => {
                    assert_eq!((one.number, later.number), (earlier, size));
                }
                other => panic!("{other:?}"),
            }
        }
        for none in [inclusion(&store, 0, size, true), inclusion(&store, size + 1, size, true)] {
            assert_eq!(none.unwrap(), None);
        }
        for earlier in [0, size, size + 1] {
            assert_eq!(consistency(&store, earlier, size).unwrap(), None);
        }
    }
    assert_eq!(inclusion(&store, 1, 41, true).unwrap(), None, "so many have no tree");
    assert_eq!(consistency(&store, 1, 41).unwrap(), None);
}

#[test]
fn what_is_not_true_is_not_proven() {
    let (store, heads) = written(13, 1);
    let wrong = |proof: &Value, heads: &str| {
        let outcome = serde_json::from_value::<Proof>(proof.clone()).map(|proof| proven(&proof, heads));
        matches!(outcome, Err(_) | Ok(Err(Unproven::Wrong(_) | Unproven::NoHead { .. })))
    };
    let within = json!(inclusion(&store, 6, 13, true).unwrap());
    let grown = json!(consistency(&store, 6, 13).unwrap());
    for (field, value) in [("number", 5), ("number", 7), ("number", 0), ("size", 12), ("size", 14)] {
        let mut proof = within.clone();
        proof[field] = json!(value);
        assert!(wrong(&proof, &heads), "{field} {value}");
    }
    for (field, value) in [("earlier", 5), ("earlier", 13), ("earlier", 0), ("size", 12), ("size", 6)] {
        let mut proof = grown.clone();
        proof[field] = json!(value);
        assert!(wrong(&proof, &heads), "{field} {value}");
    }
    let words = within["body"].as_str().unwrap();
    let mut other = within.clone();
    other["body"] = json!(words.replace("person 0", "person 1"));
    assert!(wrong(&other, &heads), "other words");
    for field in ["hash", "previous"] {
        let mut proof = within.clone();
        proof[field] = proof["path"][0].clone();
        assert!(wrong(&proof, &heads), "{field}");
    }
    let mut more = within.clone();
    more["more"] = json!(1);
    assert!(wrong(&more, &heads));

    // Another log, whose server has the same key, is not the one of these heads.
    let (other, _) = written(13, 1);
    assert!(wrong(&json!(inclusion(&other, 6, 13, true).unwrap()), &heads));
    assert!(wrong(&json!(consistency(&other, 6, 13).unwrap()), &heads));

    let grown: Proof = serde_json::from_value(grown).unwrap();
    assert!(proven(&grown, &heads).is_ok());
    let lines: Vec<&str> = heads.lines().collect();
    let without = lines[6..].join("\n");
    assert_eq!(proven(&grown, &without), Err(Unproven::NoHead { number: 6 }));
    let old = head(13, tip(&Tx::new(&store)).unwrap().hash, None);
    assert_eq!(proven(&grown, &old), Err(Unproven::NoHead { number: 13 }), "it has no tree");
    let forged = heads.replacen("\"at_ms\":2001", "\"at_ms\":2002", 1);
    assert!(matches!(proven(&grown, &forged), Err(Unproven::Line(BadLine { line: 1, .. }))));
    // Whoever signs two logs is found by who has both heads.
    let two = heads + &head(13, RecordHash::clone(&genesis()), Some(genesis()));
    assert!(matches!(proven(&grown, &two), Err(Unproven::Wrong(_))));
}
