/** Brings the parts of the page marked `data-refresh` to their present state, as the server draws them. */

export async function refresh() {
  const answer = await fetch(location.href);
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const part of document.querySelectorAll("[data-refresh]")) {
    const replacement = fresh.getElementById(part.id);
    if (!replacement) {
      // The page has another shape now, as when a curation got its result.
      location.reload();
      return;
    }
    part.replaceWith(document.adoptNode(replacement));
  }
}
