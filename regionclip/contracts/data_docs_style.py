"""Style sheet of the Data Docs, for the names of Bootstrap that Great Expectations' pages use."""

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #212529; margin: 0 auto; max-width: 1500px; padding: 1rem 2rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2rem; } a { color: #0b5cad; text-decoration: none; }
nav.navbar { height: auto !important; } nav ol.breadcrumb { list-style: none; display: flex; gap: .5rem; padding: 0; }
.breadcrumb-item + .breadcrumb-item::before { content: "/ "; color: #888; }
.container-fluid > .row { display: flex; gap: 2rem; } .col-lg-2 { flex: 0 0 15rem; }
.col-lg-10 { flex: 1; min-width: 0; }
.ge-section .row { display: block; } .sticky { position: sticky; top: 1rem; } .lead { color: #555; }
.alert { background: #eef1f4; border: 1px solid #d5dbe1; border-radius: 6px;
  padding: .6rem 1rem; margin: 1rem 0 .5rem; }
.m-0 { margin: 0; } .collapse { display: none; padding: .6rem; } .collapse:target { display: block; }
.card { border: 1px solid #d5dbe1; border-radius: 6px; margin-bottom: 1rem; }
.card-header { background: #eef1f4; padding: .4rem .8rem; }
.card ul { list-style: none; padding: .4rem .8rem; margin: 0; } .ml-1 { margin-left: .5rem; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1rem; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem; border-bottom: 1px solid #dde2e7; }
th { background: #eef1f4; } td .show-scrollbars { overflow: auto; max-height: 20rem; }
.badge { border-radius: 4px; padding: .05rem .4rem; background: #e3e8ed; font-size: 90%; }
.h6, h5, h6 { font-size: 1rem; font-weight: 600; } .text-danger { color: #b3261e; } .text-success { color: #1a7f37; }
.fas::before { content: "\\2022"; } .fas.fa-times::before { content: "\\2717"; }
.fa-check-circle::before { content: "\\2713"; }
.fa-exclamation-triangle::before { content: "!"; } i.fas { font-style: normal; font-weight: bold; }
.cooltip .top { display: none; } .cooltip:hover .top { display: block; }
.mark { border-radius: 4px; padding: .1rem .5rem; font-size: 85%; color: #fff; background: #1a7f37; }
.mark.error { background: #b3261e; } .mark.warning { background: #9a6700; }
"""
