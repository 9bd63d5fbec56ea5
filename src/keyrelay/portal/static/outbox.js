// Keeps what is marked with data-live as it is on the server: an event, or a while, and the page is fetched again.

const EVENTS = document.body.dataset.root + "../api/v1/events";
const SOON = 400; // milliseconds: many things happen at once
const OFTEN = 15_000; // times and rates change with nothing happening
const RESTS = [30_000, 60_000, 300_000]; // after a refusal: too many listen, or the session has ended
const IDLE = 30 * 60_000; // whoever has gone away is not kept signed in

const sign = document.getElementById("live");
const message = document.querySelector("[data-live]").dataset.live; // "" on the page of them all
let source = null;
let refused = 0;
let timer = 0;
let retry = 0;
let fetching = false;
let again = false;
let touched = Date.now();

function tell(text) {
  sign.hidden = false;
  if (sign.textContent !== text) sign.textContent = text;
}

function listen() {
  clearTimeout(retry);
  retry = 0;
  if (source !== null || document.visibilityState === "hidden") return;
  source = new EventSource(EVENTS);
  source.addEventListener("open", () => {
    refused = 0;
    tell("Live: what is shown here is kept up to date.");
    refreshSoon();
  });
  source.addEventListener("message", (event) => {
    if (!message || JSON.parse(event.data).id === message) refreshSoon();
  });
  source.addEventListener("lost", refreshSoon);
  source.addEventListener("error", () => {
    if (source === null) return;
    if (source.readyState !== EventSource.CLOSED) {
      tell("Not live: the connection was lost. It is tried again.");
      return;
    }
    stop("Not live: nobody more can listen now, or you are signed out. It is tried again in a while.");
    retry = setTimeout(listen, RESTS[Math.min(refused++, RESTS.length - 1)]);
  });
}

function stop(why) {
  source?.close();
  source = null;
  clearTimeout(timer);
  timer = 0;
  tell(why);
}

function refreshSoon() {
  timer ||= setTimeout(refresh, SOON);
}

async function refresh() {
  timer = 0;
  if (fetching) {
    again = true;
    return;
  }
  fetching = true;
  try {
    const answer = await fetch(location.href, { redirect: "manual", cache: "no-store" });
    if (answer.type === "opaqueredirect") {
      stop("Not live: you are signed out. Load the page again to sign in.");
    } else if (answer.ok && source !== null) {
      show(new DOMParser().parseFromString(await answer.text(), "text/html"));
    }
  } catch {
    // The listening tells of it when the server is away.
  } finally {
    fetching = false;
    if (again && source !== null) refreshSoon();
    again = false;
  }
}

function show(fresh) {
  for (const region of document.querySelectorAll("[data-live]")) {
    const next = fresh.getElementById(region.id);
    if (next === null || isRead(region)) continue;
    for (const open of region.querySelectorAll("details[open][id]")) {
      next.querySelector("#" + CSS.escape(open.id))?.setAttribute("open", "");
    }
    if (next.innerHTML === region.innerHTML) continue;
    replace(region, next);
  }
}

// Whether somebody has marked text in it, or is at something that could not be found again.
function isRead(region) {
  const marked = getSelection();
  if (!marked.isCollapsed && marked.containsNode(region, true)) return true;
  return region.contains(document.activeElement) && !document.activeElement.id;
}

function replace(region, next) {
  const focused = region.contains(document.activeElement) ? document.activeElement.id : null;
  const scrolled = [...region.querySelectorAll(".scroll[id]")].map((one) => [one.id, one.scrollLeft, one.scrollTop]);
  region.replaceChildren(...next.childNodes);
  for (const [id, left, top] of scrolled) {
    document.getElementById(id)?.scrollTo({ left, top, behavior: "instant" });
  }
  if (focused !== null) (document.getElementById(focused) ?? region).focus({ preventScroll: true });
}

function come() {
  touched = Date.now();
  if (source === null && retry === 0) listen();
}

document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "hidden") stop("Not live while nobody looks.");
  else come();
});
for (const deed of ["pointerdown", "keydown"]) document.addEventListener(deed, come, { passive: true });
setInterval(() => {
  if (source === null) return;
  if (Date.now() - touched > IDLE) stop("Not live: nothing was done here for half an hour. Press a key to go on.");
  else refreshSoon();
}, OFTEN);
listen();
