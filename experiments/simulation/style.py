"""Style sheet of the report page: light and dark, wide and narrow screens."""

STYLE = """\
:root {
  color-scheme: light dark;
  --paper: #fbfbf9; --card: #ffffff; --ink: #1c2024; --soft: #5b636b; --line: #dfe2e5;
  --grid: #e4e6e9; --banner: #7a4a00; --banner-back: #fff3d6; --accent: #0b62a8; --edge: #00000033;
  --hue-0: #1769b0; --hue-1: #c2570c; --hue-2: #1f8a5b; --hue-3: #8f4bb0; --hue-4: #b8336a;
  --hue-5: #8a6d1a; --hue-6: #0e7f91; --hue-7: #6b747d; --hue-8: #c81e1e; --hue-9: #4a55c4;
  --hue-10: #5f7d12; --hue-11: #9c4a3c; --on-hue: #ffffff;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171a; --card: #1c2024; --ink: #e8eaec; --soft: #a4adb5; --line: #353b41;
    --grid: #30363c; --banner: #ffd98a; --banner-back: #3a2c0c; --accent: #79b8f0;
    --edge: #ffffff33;
    --hue-0: #3f8fd6; --hue-1: #d9772f; --hue-2: #3a9e70; --hue-3: #a871c6; --hue-4: #d0588a;
    --hue-5: #a98a35; --hue-6: #2f9aac; --hue-7: #838c95; --hue-8: #e2605c; --hue-9: #7882e0;
    --hue-10: #7f9c36; --hue-11: #bb6c5e; --on-hue: #0d0f11;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
}
main { max-width: 76rem; margin: 0 auto; padding: 1.5rem clamp(0.9rem, 3vw, 2rem) 4rem; }
h1 { font-size: clamp(1.5rem, 4vw, 2.1rem); line-height: 1.2; margin: 0.5rem 0 0.3rem; }
h2 { font-size: 1.25rem; margin: 2.4rem 0 0.5rem; }
p { max-width: 46rem; margin: 0.5rem 0; }
.meta, .note, figcaption, small { color: var(--soft); }
.meta, .note { font-size: 0.9rem; }
.lead { font-size: 1.15rem; max-width: 50rem; margin: 1.1rem 0; }
.banner {
  background: var(--banner-back); color: var(--banner); border: 1px solid currentColor;
  border-radius: 0.5rem; padding: 0.7rem 1rem; margin: 1rem 0; max-width: none;
}
.verdict { border-left: 0.35rem solid var(--soft); background: var(--card);
  border-radius: 0.4rem; padding: 0.8rem 1.1rem; margin: 1.1rem 0; }
.verdict.yes { border-color: var(--hue-2); }
.verdict.no { border-color: var(--hue-8); }
.verdict h2 { margin: 0 0 0.3rem; font-size: 1.4rem; line-height: 1.3; }
.verdict p { max-width: 60rem; }
.figures { columns: 1; column-gap: 1.2rem; }
@media (min-width: 62rem) { .figures { columns: 2; } }
figure {
  margin: 0 0 1.2rem; padding: 0.9rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 0.6rem; break-inside: avoid;
}
figure h3 { margin: 0 0 0.5rem; font-size: 1.02rem; }
figure svg { display: block; width: 100%; max-width: 34rem; height: auto; margin: 0 auto; }
figure svg text {
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, sans-serif !important;
}
figcaption { font-size: 0.88rem; margin-top: 0.5rem; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 0.6rem;
  margin: 0.3rem 0 0.7rem;
  /* A shadow at an edge where there is more to see: it is covered once that edge is reached. */
  background:
    linear-gradient(to right, var(--card), transparent) left / 3rem 100% local,
    linear-gradient(to left, var(--card), transparent) right / 3rem 100% local,
    linear-gradient(to right, var(--edge), transparent) left / 0.8rem 100% scroll,
    linear-gradient(to left, var(--edge), transparent) right / 0.8rem 100% scroll var(--card);
  background-repeat: no-repeat; }
.scroll:focus-visible { outline: 2px solid var(--accent); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums;
  font-size: 0.92rem; }
.caption { color: var(--soft); font-size: 0.88rem; margin: 1rem 0 0.3rem; }
th, td { padding: 0.4rem 0.7rem; text-align: right; white-space: nowrap; vertical-align: top;
  border-top: 1px solid var(--line); }
thead th { border-top: 0; font-weight: 600; color: var(--soft); white-space: normal;
  vertical-align: bottom; }
tbody th { text-align: left; font-weight: 600; position: sticky; left: 0;
  background: var(--card); }
thead th:first-child { text-align: left; position: sticky; left: 0; background: var(--card); }
td small { display: block; }
th.words { text-align: left; }
td.words { text-align: left; white-space: normal; min-width: 18rem; }
details { margin: 0.6rem 0; }
summary { cursor: pointer; color: var(--accent); }
dl { display: grid; grid-template-columns: fit-content(45%) 1fr; gap: 0.15rem 1rem;
  margin: 0.5rem 0; font-size: 0.92rem; }
dt { color: var(--soft); }
dt { overflow-wrap: anywhere; }
dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 40rem) {
  th, td { padding: 0.35rem 0.5rem; }
  table { font-size: 0.85rem; }
  td.words { min-width: 12rem; }
}
"""
