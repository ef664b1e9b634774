// The live page: its parts are replaced as events come, its buttons do not leave it, and it says so
// when nobody answers. Without this script the page is the same, and does not change by itself.
"use strict";
(function () {
  var main = document.getElementById("main");
  var seen = Date.now(); // the last event
  var SILENT = 25000; // ms: an event comes at least every ten seconds
  var AGAIN = 5000; // ms
  var READ = 15000; // ms: what went well need not stay

  var offline = document.createElement("p");
  offline.id = "offline";
  offline.className = "notice bad";
  offline.setAttribute("role", "alert");
  offline.hidden = true;
  document.body.insertBefore(offline, main);
  var said = document.getElementById("said"); // of the form that led here
  if (!said) {
    said = document.createElement("p");
    said.id = "said";
    said.className = "notice busy";
    said.setAttribute("role", "status");
    said.hidden = true;
    document.body.insertBefore(said, main);
  }

  function show(bar, words, tone) {
    if (bar.textContent !== words) { bar.textContent = words; }
    if (tone) { bar.className = "notice " + tone; }
    bar.hidden = !words;
  }

  var fades;
  function say(words, isGood) {
    show(said, words, isGood ? "good" : "bad");
    clearTimeout(fades);
    if (isGood) { fades = setTimeout(function () { show(said, ""); }, READ); }
  }
  if (!said.hidden) { say(said.textContent, true); }

  function online() {
    seen = Date.now();
    show(offline, "");
    document.body.classList.remove("is-old");
  }

  function lost(words) {
    var minutes = Math.round((Date.now() - seen) / 60000);
    var since = minutes ? " What stands here is " + minutes + " min old." : "";
    show(offline, words + since);
    document.body.classList.add("is-old");
  }

  // Change `old` into `fresh` where they differ, so that focus, open details, selected text and
  // pictures that are loaded stay as they are.
  function key(node) { return node.nodeType === 1 ? node.tagName + "#" + (node.id || "") : node.nodeType; }

  function change(old, fresh) {
    if (old.isEqualNode(fresh)) { return; }
    if (key(old) !== key(fresh)) { old.replaceWith(fresh.cloneNode(true)); return; }
    if (old.nodeType !== 1) { old.nodeValue = fresh.nodeValue; return; }
    Array.from(old.attributes).forEach(function (each) {
      if (!fresh.hasAttribute(each.name) && each.name !== "open") { old.removeAttribute(each.name); }
    });
    Array.from(fresh.attributes).forEach(function (each) {
      if (old.getAttribute(each.name) !== each.value) { old.setAttribute(each.name, each.value); }
    });
    var now = Array.from(old.childNodes);
    var next = Array.from(fresh.childNodes);
    now.slice(next.length).forEach(function (node) { node.remove(); });
    next.forEach(function (node, number) {
      if (number < now.length) { change(now[number], node); } else { old.appendChild(node.cloneNode(true)); }
    });
  }

  function replaceMain(html) {
    var fresh = new DOMParser().parseFromString("<main>" + html + "</main>", "text/html");
    var focused = document.activeElement;
    var label = main.contains(focused) ? focused.getAttribute("aria-label") : null;
    var next = fresh.querySelector("main");
    next.id = "main";
    next.setAttribute("tabindex", "-1");
    change(main, next);
    if (label && !main.contains(document.activeElement)) {
      var same = Array.from(main.querySelectorAll("[aria-label]")).find(function (each) {
        return each.getAttribute("aria-label") === label;
      });
      (same || main).focus({ preventScroll: true });
    }
  }

  function listen() {
    var events = new EventSource("/events");
    events.addEventListener("main", function (event) { online(); replaceMain(event.data); });
    events.addEventListener("slow", function () {
      lost("The spool's folder does not answer: its share may be gone.");
    });
    events.addEventListener("error", function () {
      lost("No connection to sdwatch web. Is it still running there?");
      if (events.readyState === EventSource.CLOSED) { setTimeout(listen, AGAIN); }
    });
    var watch = setInterval(function () {
      if (events.readyState === EventSource.CLOSED) { clearInterval(watch); return; }
      if (Date.now() - seen > SILENT) {
        lost("Nothing comes from sdwatch web any more.");
        if (events.readyState === EventSource.OPEN) { events.close(); clearInterval(watch); listen(); }
      }
    }, AGAIN);
  }

  function press(form) {
    var buttons = form.querySelectorAll("button");
    buttons.forEach(function (each) { each.setAttribute("aria-busy", "true"); });
    fetch(form.action, {
      method: "POST",
      headers: { Accept: "application/json" },
      body: new URLSearchParams(new FormData(form)),
      redirect: "error",
    }).then(function (reply) {
      return reply.json().then(function (body) {
        say(body.done || body.problem, reply.ok);
      });
    }).catch(function () {
      say("That did not arrive: no connection to sdwatch web.", false);
    }).finally(function () {
      buttons.forEach(function (each) { each.removeAttribute("aria-busy"); });
    });
  }

  document.addEventListener("submit", function (event) {
    if (event.target.method === "post" && main.contains(event.target)) {
      event.preventDefault();
      if (!event.target.querySelector("[aria-busy]")) { press(event.target); }
    }
  });

  // A picture that cannot be shown leaves its name, and no broken sign.
  document.addEventListener("error", function (event) {
    if (event.target.tagName === "IMG") { event.target.classList.add("broken"); }
  }, true);

  listen();
})();
