// A test that appears as it runs. Without this module the same form gets the finished report as a page.

const panel = document.getElementById("test-panel");
const part = (name) => panel.querySelector(`[data-test-${name}]`);
let running = null;

document.addEventListener("submit", (event) => {
  if (!event.submitter?.hasAttribute("data-test")) return;
  event.preventDefault();
  if (running === null) run(event.target, event.submitter);
});

async function run(form, button) {
  running = new AbortController();
  begin();
  try {
    const answer = await fetch(new URL(button.getAttribute("formaction") ?? form.getAttribute("action"), location), {
      method: "POST",
      headers: { accept: "text/event-stream" },
      body: new URLSearchParams(new FormData(form, button)),
      signal: running.signal,
    });
    await follow(answer);
  } catch (error) {
    say(running.signal.aborted ? "You have cancelled the test." : "The connection to keyrelay was lost, and the test with it.");
  } finally {
    running = null;
    end(button);
  }
}

function begin() {
  markRecipient(null);
  panel.hidden = part("under-way").hidden = part("stages").hidden = false;
  part("stages").replaceChildren();
  part("report").replaceChildren();
  part("said").classList.remove("hidden-text");
  say("The test has begun.");
  panel.scrollIntoView({ block: "nearest" });
}

function end(button) {
  const left = part("cancel") === document.activeElement;
  part("under-way").hidden = true;
  if (left) (part("report").hasChildNodes() ? panel : button).focus();
}

async function follow(answer) {
  if (answer.redirected) return say("Your session has ended. Sign in again in another window, and then start the test again.");
  if (!answer.headers.get("content-type")?.startsWith("text/event-stream")) return showProblem(await answer.text());
  let over = false;
  for await (const [name, { html, said }] of eventsOf(answer.body)) {
    over = name !== "stage";
    if (name === "stage") part("stages").append(...nodesOf(html));
    if (name === "report") showReport(html);
    if (name === "problem") showProblem(html);
    else say(said);
  }
  if (!over) say("The test ended without a report. Start it again.");
}

async function* eventsOf(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const events = text.split("\n\n");
    text = events.pop();
    for (const event of events) {
      const [, name, data] = event.match(/^event: (.*)\ndata: (.*)$/);
      yield [name, JSON.parse(data)];
    }
  }
}

// The server writes pages, and pieces of them; what others have said is text in them. Nothing parsed like this runs.
const parsed = (html) => new DOMParser().parseFromString(html, "text/html");
const nodesOf = (html) => parsed(html).body.children;

function showReport(html) {
  part("stages").replaceChildren(); // they are in the report
  part("stages").hidden = true;
  part("report").replaceChildren(...nodesOf(html));
  part("said").classList.add("hidden-text"); // it is the report in one sentence, for who listens
  offerCopies();
}

function showProblem(page) {
  const answer = parsed(page);
  const told = answer.querySelector("main [role=alert]");
  markRecipient(answer.getElementById("test-recipient-wrong"));
  part("stages").hidden = !part("stages").hasChildNodes();
  say("");
  if (told) part("report").replaceChildren(told);
  else say("keyrelay gave an answer that is none. Load this page anew.");
}

function markRecipient(wrong) {
  const field = document.getElementById("test-recipient");
  document.getElementById("test-recipient-wrong")?.remove();
  field.removeAttribute("aria-invalid");
  field.setAttribute("aria-describedby", "test-recipient-hint" + (wrong ? " test-recipient-wrong" : ""));
  if (!wrong) return;
  field.setAttribute("aria-invalid", "true");
  field.parentElement.append(wrong);
}

function say(text) {
  part("said").textContent = text;
}

function offerCopies() {
  const button = part("copy");
  if (button) button.hidden = false;
}

async function copy() {
  const text = panel.querySelector("textarea.ticket");
  text.select();
  let copied = true;
  try {
    await navigator.clipboard.writeText(text.value);
  } catch {
    copied = document.execCommand("copy"); // without TLS there is no clipboard, and in some browsers no permission
  }
  part("copied").textContent = copied ? "Copied." : "The text is selected; copy it with your keyboard.";
}

panel.addEventListener("click", (event) => {
  if (event.target.closest("[data-test-cancel]")) running?.abort();
  if (event.target.closest("[data-test-copy]")) copy();
});
offerCopies();

// Who will get mail, in words, before it goes.
const who = document.querySelector("[data-test-who]");
const form = who?.closest("form");
function tellWho() {
  const { test_mode: mode, test_recipient: recipient, sender_account: sender } = form.elements;
  const from = sender?.value.trim() || who.dataset.sender || "the sender account";
  who.value = mode.value === "message" ? `${recipient.value.trim() || "The recipient"} gets one mail from ${from}.` : "Nobody gets mail.";
}
if (form) {
  form.addEventListener("input", tellWho);
  tellWho();
}
