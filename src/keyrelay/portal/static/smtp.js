// The form of the profile as it is typed: words, warnings and presets at once. Everything works without it.
const form = document.getElementById("profile");
const ending = document.getElementById("password-ends");
const hosts = new RegExp(ending.dataset.hosts, "i");
const FILLED = ["host", "port", "use_ssl", "authentication", "token_endpoint", "scope", "audience", "request_headers"];

function tell() {
  const signIn = form.elements.authentication.value;
  const port = form.elements.port.value.trim() === "465" ? "465" : "other";
  const key = `${port}-${form.elements.use_ssl.checked ? "tls" : "plain"}-${signIn === "anonymous" ? "anonymous" : "signed-in"}`;
  for (const words of form.querySelectorAll("[data-wire]")) words.hidden = words.dataset.wire !== key;
  ending.hidden = signIn !== "basic" || !hosts.test(form.elements.host.value.trim().replace(/\.$/, ""));
}

function take(other) {
  for (const name of FILLED) {
    if (name === "use_ssl") form.elements[name].checked = other.elements[name].checked;
    else form.elements[name].value = other.elements[name].value;
  }
  if (other.elements.authentication.value === "basic" && other.dataset.user) {
    form.elements["relay_username.source"].value = "here";
    form.elements["relay_username.secret_value"].value = other.dataset.user;
  }
  tell();
}

async function page(address, options) {
  const answer = await fetch(address, { credentials: "same-origin", ...options });
  return new DOMParser().parseFromString(await answer.text(), "text/html");
}

let asking = new AbortController();

// Here and not by a new page, which would lose what has been typed.
document.getElementById("presets").addEventListener("submit", async (event) => {
  event.preventDefault();
  const presets = event.target;
  const chosen = presets.elements.preset.value;
  asking.abort();
  asking = new AbortController();
  const { signal } = asking;
  let found;
  try {
    found = await page(`${presets.action}?preset=${encodeURIComponent(chosen)}`, { signal });
  } catch {
    if (signal.aborted) return; // another was chosen meanwhile
    document.getElementById("preset-notes").textContent = "keyrelay does not answer. Try again in a moment.";
    return;
  }
  const other = found.getElementById("profile");
  if (other === null) return presets.submit(); // the session has ended
  if (chosen) take(other);
  document.getElementById("preset-notes").replaceChildren(...found.getElementById("preset-notes").childNodes);
});

async function bringUpToDate() {
  const typed = new URLSearchParams(new FormData(form));
  for (const name of [...typed.keys()]) {
    if (/\.(secret_value|key)$/.test(name) && form.elements[name].matches("[type=password], .masked")) {
      if (typed.get(name)) typed.set(name, "typed"); // the secret itself stays here
    }
  }
  typed.set("only", "lines");
  const found = await page(form.getAttribute("action"), { method: "POST", body: typed });
  const lines = found.querySelectorAll("#lines pre");
  if (lines.length === 0) return;
  form.querySelectorAll("#lines pre").forEach((shown, place) => { shown.textContent = lines[place].textContent; });
}

const lines = document.getElementById("lines");
lines.addEventListener("toggle", () => { if (lines.open) bringUpToDate(); });
lines.querySelector("button").addEventListener("click", (event) => { event.preventDefault(); bringUpToDate(); });
form.addEventListener("input", tell);
tell();
