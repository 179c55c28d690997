//! The reviewers' page in a real browser: what it hides from the first frame on, what it records, what it never keeps.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tests::{Browser, Clips, Http, Platform, Server, skipped};

use crate::access::{PASSWORD, person, with_admin};
use crate::evidence::{preserved, set_up, setup};
use crate::items::{png, post, send, settled};

/// Bytes of the medium that nothing else has: they must never lie in the browser's folder.
const PLANTED: &[u8] = b"planted words of the medium 7f3a91";
const NEXT: &str = "//button[.='Next job of ncmec']";
const LOAD: &str = "//button[.='Load, blurred']";
const HOLD: &str = "//button[.='Hold to look']";
const FRAME: &str = "//div[@class='frame']";
const VEILED: &str = "return getComputedStyle(document.querySelector('.veil')).filter.startsWith('blur(')";
const LIFTED: &str = "return getComputedStyle(document.querySelector('.veil')).filter === 'grayscale(1)'";

/// Notes, at every frame and every change, what filters lie over each picture and film, and what breaks the policy.
const WATCH: &str = "
    window.seen = {}; window.blocked = []; window.ran = 0;
    const over = (node) => {
        let filters = '';
        for (let at = node; at; at = at.parentElement) filters += getComputedStyle(at).filter + ' ';
        return filters;
    };
    const look = () => document.querySelectorAll('img,video,canvas').forEach((node) => {
        const filters = over(node);
        window.seen[filters] = (window.seen[filters] || 0) + 1;
    });
    new MutationObserver(look).observe(document, { subtree: true, childList: true, attributes: true });
    document.addEventListener('securitypolicyviolation', (event) => window.blocked.push(event.blockedURI));
    const frame = () => { look(); requestAnimationFrame(frame); };
    frame();";

/// A browser on the page, where a reviewer called anna may log in; an NCMEC job with one picture waits.
struct Scene {
    browser: Browser,
    server: Server,
    admin: Http,
    platform: Platform,
}

fn scene(test: &str, text: &str) -> Option<Scene> {
    let Some(browser) = Browser::start() else {
        skipped(test, "ChromeDriver is not installed");
        return None;
    };
    let platform = Platform::start();
    let (mut server, admin) = with_admin(setup());
    server.http = admin.clone();
    set_up(&server);
    let url = platform.put("a", "image/png", &[&png(3)[..], PLANTED].concat());
    let mut item = post("1", "u", json!({ "gallery": [url] }));
    item["data"]["text"] = json!(text);
    send(&server, &[item]);
    settled(&server);
    preserved(&server);
    person(&server, &admin, "anna", "child_safety_moderator");
    browser.on_every_page(WATCH);
    browser.open(&format!("http://{}/ui/", server.admin));
    browser.write("//input[@name='name']", "anna");
    browser.write("//input[@name='password']", PASSWORD);
    browser.click("//button[.='Log in']");
    Some(Scene { browser, server, admin, platform })
}

impl Scene {
    fn load(&self) {
        self.browser.click(NEXT);
        self.browser.click(LOAD);
        self.browser
            .wait("const shown = document.querySelector('img'); return !!shown && shown.naturalWidth > 0");
    }

    /// Who looked, as the audit log has it.
    fn looks(&self) -> Vec<Value> {
        let (status, page) = self.admin.get("/api/v1/audit?action=media.unblur");
        assert_eq!(status, 200, "{page}");
        page["entries"].as_array().unwrap().clone()
    }
}

/// The most that neighbouring pixels differ, and that a pixel's colours differ, in a picture of the tile.
fn structure(png: &[u8]) -> (u8, u8) {
    let picture = image::load_from_memory(png).unwrap().into_rgb8();
    let (mut edge, mut colour) = (0, 0);
    for y in 0..picture.height() {
        for x in 1..picture.width() {
            let (left, here) = (picture[(x - 1, y)].0, picture[(x, y)].0);
            edge = edge.max(left[1].abs_diff(here[1]));
            colour = colour.max(here[0].abs_diff(here[1])).max(here[1].abs_diff(here[2]));
        }
    }
    (edge, colour)
}

/// Whether a file below a folder has these bytes.
fn holds(folder: &Path, bytes: &[u8]) -> bool {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).any(|path| {
        if path.is_dir() {
            return holds(&path, bytes);
        }
        let file = fs::read(&path).unwrap_or_default();
        file.windows(bytes.len()).any(|window| window[0] == bytes[0] && window == bytes)
    })
}

#[test]
fn a_medium_is_veiled_from_its_first_frame_on_and_each_look_is_held_and_on_record() {
    let Some(mut scene) = scene("page", "words") else { return };
    scene.load();
    let browser = &scene.browser;
    let seen = browser.run("return window.seen");
    let seen = seen.as_object().unwrap();
    assert!(!seen.is_empty(), "the picture is in the page");
    for filters in seen.keys() {
        assert!(filters.contains("blur(40px) grayscale(1)"), "{filters}");
    }
    assert!(scene.looks().is_empty(), "loading is no look");
    let (veiled, colour) = structure(&browser.picture(FRAME));
    assert!(colour <= 3, "it is grey: {colour}");

    browser.press(HOLD);
    browser.wait(LIFTED);
    let (sharp, colour) = structure(&browser.picture(FRAME));
    assert!(colour <= 3, "it stays grey: {colour}");
    assert!(sharp > 12 && veiled < sharp / 3, "veiled {veiled}, sharp {sharp}");
    browser.let_go();
    assert_eq!(browser.run(VEILED), json!(true), "it is back at once");
    assert_eq!(scene.looks().len(), 1);

    // Whatever takes the reviewer away puts the veil back, while the button is still pressed.
    let away = [
        "window.dispatchEvent(new Event('blur'))",
        "document.dispatchEvent(new KeyboardEvent('keydown', { key: 'Escape' }))",
        "document.dispatchEvent(new Event('visibilitychange'))",
        "document.dispatchEvent(new Event('pointercancel'))",
    ];
    for (at, event) in away.iter().enumerate() {
        browser.press(HOLD);
        browser.wait(LIFTED);
        let script = format!("{event}; {VEILED}");
        assert_eq!(browser.run(&script), json!(true), "{event}");
        browser.let_go();
        let looks = scene.looks();
        assert_eq!(looks.len(), 2 + at, "one record for each look: {looks:?}");
        assert!(looks.iter().all(|look| look["who"] == "person:anna"), "{looks:?}");
    }
    browser.press(HOLD);
    browser.wait(LIFTED);
    browser.wait(VEILED); // after ten seconds, though nobody lets go
    browser.let_go();

    let stored = "return Promise.all([caches.keys(), indexedDB.databases()])
        .then((kept) => [localStorage.length, sessionStorage.length, kept[0].length, kept[1].length])";
    assert_eq!(browser.run(stored), json!([0, 0, 0, 0]));
    let job = browser.run("return document.querySelector('h2').textContent.split(' ').pop()");
    let anna = Http::logged_in(&scene.server.admin, "anna", PASSWORD);
    let place = format!("/api/v1/jobs/{}/media/1/content", job.as_str().unwrap());
    let (_, today) = anna.get("/api/v1/session/exposure");
    assert_eq!(
        (&today["unblurs"], &today["views"], &today["complete"]),
        (&json!(6), &json!(1), &json!(true))
    );
    browser.open(&format!("http://{}/ui/", scene.server.admin));
    browser.wait("return document.getElementById('exposure').textContent.startsWith('Today: 6 looks')");
    let others = Http::logged_in(&scene.server.admin, "root", PASSWORD).get("/api/v1/session/exposure").1;
    assert_eq!(others["unblurs"], 0, "each their own");
    let (status, headers, bytes) = anna.bytes(&place, &[]);
    assert_eq!((status, headers["cache-control"].as_str()), (200, "no-store"));
    assert!(bytes.ends_with(PLANTED));
    scene.browser.quit();
    assert!(!holds(scene.browser.folder(), PLANTED), "the browser keeps nothing of it on the disk");
}

#[test]
fn a_look_that_cannot_be_recorded_shows_nothing_and_hostile_words_stay_words() {
    let hostile = "<img src=x onerror=\"window.ran=1\"><script>window.ran=1</script>";
    let Some(scene) = scene("page", hostile) else { return };
    let report = json!({ "reporter": { "kind": "user", "typeId": "user", "id": "r" }, "reportedAt": "2026-01-01T00:00:00Z",
        "reportedItem": post("2", "u", json!({})), "reportedForReason": { "csam": true, "reason": hostile } });
    assert_eq!(scene.admin.post("/api/v1/report", &report).0, 201);
    settled(&scene.server);
    scene.load();
    let browser = &scene.browser;
    browser.write("//label[contains(., 'Yours')]/textarea", hostile);
    browser.click("//button[.='Add']");
    browser.wait("return document.querySelector('main').innerText.split('onerror').length >= 4");
    assert_eq!(
        browser.run("return [window.ran, document.querySelectorAll('main img').length]"),
        json!([0, 1])
    );
    let said = "return [...document.querySelectorAll('main pre')]
        .filter((said) => said.textContent.includes('onerror')).length";
    assert_eq!(browser.run(said), json!(2), "the item's words, and the report's");
    assert_eq!(browser.run("return document.querySelectorAll('main a, main script').length"), json!(0));
    assert_eq!(browser.run("return window.blocked"), json!([]), "nothing was even tried");
    let hosts = "return [...new Set(performance.getEntriesByType('resource')
        .map((entry) => entry.name.replace('blob:', '')).map((name) => new URL(name).host))]";
    assert_eq!(browser.run(hosts), json!([scene.server.admin]));
    // Were something to slip in, the policy stops it.
    browser.run(
        "const script = document.createElement('script'); script.textContent = 'window.ran = 1';
        document.body.append(script)",
    );
    assert_eq!(browser.run("return window.ran"), json!(0));

    assert_eq!(scene.admin.put("/api/v1/people/anna", &json!({ "disabled": true })).0, 200);
    browser.press(HOLD);
    browser.wait("return document.getElementById('said').textContent.startsWith('Not shown')");
    assert_eq!(browser.run(VEILED), json!(true));
    browser.let_go();
    let seen = browser.run("return window.seen");
    assert!(seen.as_object().unwrap().keys().all(|filters| filters.contains("blur(40px)")), "{seen}");
    assert!(scene.looks().is_empty());
}

#[test]
fn a_page_without_its_style_shows_nothing_and_keys_hold_as_a_pointer_does() {
    let Some(scene) = scene("page", "words") else { return };
    scene.load();
    let browser = &scene.browser;
    let key = |kind: &str| {
        format!(
            "const hold = document.querySelector('.hold'); hold.focus();
            hold.dispatchEvent(new KeyboardEvent('{kind}', {{ key: ' ', bubbles: true }}));"
        )
    };
    browser.run(&key("keydown"));
    browser.wait(LIFTED);
    assert_eq!(browser.run(&format!("{} {VEILED}", key("keyup"))), json!(true));
    assert_eq!(scene.looks().len(), 1);

    browser.devtools("Network.enable", &json!({}));
    browser.devtools("Network.setBlockedURLs", &json!({ "urls": ["*page.css"] }));
    browser.open(&format!("http://{}/ui/", scene.server.admin));
    browser.click(NEXT);
    browser.click(LOAD);
    browser.wait("return document.getElementById('said').textContent.includes('style is missing')");
    assert_eq!(browser.run("return document.querySelectorAll('img').length"), json!(0));
}

#[test]
fn a_report_is_made_and_a_job_is_ignored_through_the_page() {
    let Some(scene) = scene("page", "words") else { return };
    scene.load();
    let browser = &scene.browser;
    let class = "//select[@name='class']/option[.='A1']";
    browser.click(class);
    browser.run("window.confirm = () => false");
    browser.click("//button[.='Report']");
    browser.run("window.confirm = () => true");
    assert_eq!(
        browser.run("return document.getElementById('said').textContent"),
        json!(""),
        "nothing was sent"
    );
    browser.click("//button[.='Report']");
    browser.wait("return document.getElementById('said').textContent.includes('not viewed')");
    browser.press(HOLD);
    browser.wait(LIFTED);
    browser.let_go();
    browser.click("//button[.='Report']");
    browser.find("//h2[.='Queues']");
    let filings = scene.admin.get("/api/v1/filings").1;
    assert_eq!(filings.as_array().unwrap().len(), 1, "{filings}");

    let mut item = post("2", "v", json!({}));
    item["data"]["text"] = json!("review");
    send(&scene.server, &[item]);
    settled(&scene.server);
    take(browser, "default");
    browser.click("//button[.='Ignore']");
    browser.find("//h2[.='Queues']");
    assert!(scene.server.jobs("default").is_empty());
    let (_, page) = scene.admin.get("/api/v1/audit?action=job.decide");
    assert_eq!(page["entries"].as_array().unwrap().len(), 2, "{page}");
}

/// Takes the next job of a queue.
fn take(browser: &Browser, queue: &str) {
    browser.click("//button[.='Look again']");
    browser.click(&format!("//button[.='Next job of {queue}']"));
    browser.find("//h3[.='Otherwise']");
}

#[test]
fn every_way_out_of_a_job_goes_through_the_page() {
    let Some(scene) = scene("page", "words") else { return };
    let (browser, admin) = (&scene.browser, &scene.admin);
    assert_eq!(admin.put("/api/v1/queues/second", &json!({ "description": "second" })).0, 200);
    assert_eq!(admin.put("/api/v1/webhooks/platform", &json!({ "url": scene.platform.url("hook") })).0, 200);
    let items = ["2", "3", "4"].map(|id| {
        let mut item = post(id, &format!("user{id}"), json!({}));
        item["data"]["text"] = json!("review");
        item
    });
    send(&scene.server, &items);
    settled(&scene.server);
    let out = |deed: &str| {
        browser.click(&format!("//button[.='{deed}']"));
        browser.find("//h2[.='Queues']");
    };
    take(browser, "default");
    out("Give back");
    take(browser, "default");
    out("Skip");
    take(browser, "default");
    browser.write("//label[contains(., 'Queue')]/input", "nowhere");
    browser.click("//button[.='Move']");
    browser.wait("return document.getElementById('said').textContent.includes('nowhere')");
    browser.write("//label[contains(., 'Queue')]/input", "\u{e003}".repeat(7).as_str()); // Backspace
    browser.write("//label[contains(., 'Queue')]/input", "second");
    out("Move");
    take(browser, "second");
    browser.write("//label[contains(., 'Webhooks')]/input", "platform");
    browser.write("//label[contains(., 'Reason')]/input", "told");
    out("Act");
    take(browser, "default");
    out("To NCMEC, with all of its user");
    let left = ["default", "second", "ncmec"].map(|queue| scene.server.jobs(queue).len());
    assert_eq!(left, [1, 0, 2], "one was skipped, one moved and closed, one became another of ncmec");
    let done = |action: &str| {
        let (_, page) = admin.get(&format!("/api/v1/audit?action={action}&who=person:anna"));
        page["entries"].as_array().unwrap().len()
    };
    let deeds = ["job.release", "job.skip", "job.move", "job.decide", "job.enqueue_ncmec"];
    assert_eq!(deeds.map(done), [1; 5]);

    browser.click("//button[.='Log out']");
    browser.find("//input[@name='password']");
    browser.open(&format!("http://{}/ui/", scene.server.admin));
    browser.find("//input[@name='password']");
    assert_eq!(browser.run("return document.querySelectorAll('main table').length"), json!(0));
}

#[test]
fn all_that_a_report_says_is_said_on_the_page() {
    let Some(scene) = scene("page", "words") else { return };
    scene.load();
    let browser = &scene.browser;
    browser.run("window.confirm = () => true");
    browser.click("//label[contains(., 'in colour')]/input");
    browser.press(HOLD);
    browser.wait("return getComputedStyle(document.querySelector('.veil')).filter === 'none'");
    let (_, colour) = structure(&browser.picture(FRAME));
    assert!(colour > 12, "in colour, because it was chosen: {colour}");
    browser.let_go();
    assert_eq!(browser.run(VEILED), json!(true));
    browser.click("//option[.='B1']");
    browser.click("//summary[.='Labels']");
    browser.click("//label[contains(., 'viral')]/input");
    browser.click("//option[.='Child Sex Tourism']");
    browser.write("//label[contains(., 'Additional information')]/textarea", "what is more");
    browser.click("//label[contains(., 'It cannot wait')]/input");
    browser.click("//button[.='Report']");
    browser.wait("return document.getElementById('said').textContent.includes('escalate')");
    browser.write("//form[@name='report']//label[contains(., 'because')]/input", "a child is in danger");
    browser.click("//button[.='Report']");
    browser.find("//h2[.='Queues']");
    let filings = scene.admin.get("/api/v1/filings").1;
    let decision =
        scene.admin.get(&format!("/api/v1/jobs/{}", filings[0]["job"])).1["decision"]["report"].clone();
    assert_eq!(
        (&decision["incident_type"], &decision["escalate"], &decision["additional_info"]),
        (&json!("Child Sex Tourism"), &json!("a child is in danger"), &json!("what is more")),
        "{decision}"
    );
    let medium = &decision["media"][0];
    assert_eq!(
        (&medium["classification"], &medium["annotations"], &medium["viewed"]),
        (&json!("B1"), &json!(["viral"]), &json!(true)),
        "{decision}"
    );
}

#[test]
fn a_film_is_silent_and_plays_only_while_it_is_held_and_only_if_that_was_chosen() {
    let Some(clips) = Clips::new("page") else { return };
    let Some(scene) = scene("page", "words") else { return };
    let film = scene.platform.put("film", "video/mp4", &clips.source("film.mp4", "testsrc2", 3));
    let mut item = post("2", "v", json!({ "takes": { "first": { "url": film } } }));
    item["data"]["text"] = json!("review");
    send(&scene.server, &[item]);
    settled(&scene.server);
    preserved(&scene.server);
    let browser = &scene.browser;
    take(browser, "default");
    browser.click(LOAD);
    browser
        .wait("const film = document.querySelector('video'); return !!film && film.readyState >= 2 && film.muted && film.paused");
    let seen = browser.run("return window.seen");
    assert!(seen.as_object().unwrap().keys().all(|filters| filters.contains("blur(40px)")), "{seen}");
    let quiet =
        "const film = document.querySelector('video'); return film.muted && film.paused && !film.controls";
    browser.press(HOLD);
    browser.wait(LIFTED);
    assert_eq!(browser.run(quiet), json!(true), "nobody asked it to play");
    browser.let_go();
    browser.click("//label[contains(., 'play while held')]/input");
    browser.press(HOLD);
    browser.wait(LIFTED);
    browser.wait("const film = document.querySelector('video'); return !film.paused && film.muted");
    browser.let_go();
    assert_eq!(browser.run(quiet), json!(true));
    assert_eq!(browser.run(VEILED), json!(true));
    browser.click("//label[contains(., 'with sound')]/input");
    browser.press(HOLD);
    browser.wait("const film = document.querySelector('video'); return !film.paused && !film.muted");
    browser.let_go();
    assert_eq!(browser.run(quiet), json!(true), "the next look begins silent");
}

#[test]
fn a_break_covers_the_page_and_can_be_put_off_once() {
    let Some(scene) = scene("page", "words") else { return };
    scene.load();
    let browser = &scene.browser;
    let later = |minutes: u32| {
        let script = format!("const now = Date.now; Date.now = () => now() + {minutes} * 60000");
        browser.run(&script);
    };
    let covered = "return document.getElementById('break').open
        && getComputedStyle(document.querySelector('main')).display === 'none'";
    later(46);
    browser.wait(covered);
    browser.click("//button[.='In 5 minutes']");
    assert_eq!(browser.run(covered), json!(false));
    later(6);
    browser.wait(covered);
    assert_eq!(browser.run("return document.getElementById('break-later').hidden"), json!(true));
    browser.click("//button[.='Take 5 minutes']");
    browser.wait("return document.getElementById('break-left').textContent.startsWith('4:')");
    later(5);
    browser.wait("return !document.getElementById('break').open");
    assert_eq!(browser.run(VEILED), json!(true));
    // And after 25 looks.
    for _ in 0..25 {
        browser.press(HOLD);
        browser.wait(LIFTED);
        browser.let_go();
    }
    browser.wait(covered);
}
