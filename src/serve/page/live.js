// Without this the page is whole, and stands still until it is asked for again. With it, it is asked for every few seconds
// while somebody looks at it, and what is new takes its place; not while they write, select or step through it.
(() => {
  if (document.querySelector("meta[http-equiv=refresh]")) return;
  const link = document.getElementById("refresh");
  let live = true, asking = false;
  const say = () => { link.textContent = live ? "Live: pause" : "Paused: go on"; };
  const busy = () => document.querySelector("main").contains(document.activeElement) || getSelection()?.type === "Range";
  const ask = async () => {
    if (!live || asking || document.hidden || busy()) return;
    asking = true;
    let fresh = null;
    try {
      const answer = await fetch(location.href, { signal: AbortSignal.timeout(10000) });
      const text = await answer.text();
      // From there on, since the new style sheet is the old one, and has a nonce that is not ours.
      if (answer.ok) fresh = new DOMParser().parseFromString(text.slice(text.indexOf("<main")), "text/html");
    } catch { /* told below */ }
    if (fresh && !busy()) for (const part of ["main", "footer"]) document.querySelector(part).replaceWith(fresh.querySelector(part));
    document.body.classList.toggle("stale", !fresh);
    asking = false;
  };
  link.addEventListener("click", (e) => { e.preventDefault(); live = !live; say(); ask(); });
  document.addEventListener("visibilitychange", ask);
  setInterval(ask, 5000);
  say();
})();
