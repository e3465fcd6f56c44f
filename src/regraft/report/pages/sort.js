for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const heading = button.closest("th");
    const body = heading.closest("table").tBodies[0];
    const place = heading.cellIndex;
    const down = heading.getAttribute("aria-sort") !== "descending";
    for (const other of heading.parentNode.cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = (row) => row.cells[place].dataset.value ?? row.cells[place].textContent;
    const compare = (a, b) => {
      const [x, y] = [value(a), value(b)];
      const order = place === 0 ? x.localeCompare(y, undefined, {numeric: true}) : Number(x) - Number(y);
      return down ? -order : order;
    };
    body.append(...[...body.rows].sort(compare));
  });
}
