"""What `streamlit run` starts: the pages, and what holds for all of them."""

import streamlit as st
from PIL import Image, ImageDraw
from streamlit.runtime.scriptrunner import get_script_run_ctx

from celeba_fl.dashboard import all_runs, devices, one_run, try_model
from celeba_fl.dashboard.launch import exposure
from celeba_fl.report.charts import COLOURS

# Less empty space above a page than Streamlit leaves; headings of a size that a phone has room for.
STYLE = """<style>
[data-testid="stMainBlockContainer"] { padding-top: 4.5rem; padding-bottom: 3rem; }
h1 { font-size: clamp(1.5rem, 4vw, 2.2rem) !important; padding-top: 0 !important; }
h2 { font-size: 1.4rem !important; }
</style>"""

EVERY_ADDRESS = "0.0.0.0"  # what Streamlit takes if it is told none

# The parts of the page before are forgotten at once, and not when this one is whole: a browser
# that still asks for one of them, as it does twice a second, would take the answer for a change
# of pages, and show neither (Streamlit 1.67).
if context := get_script_run_ctx():
    context.fragment_storage.clear()
# A picture of our own: browsers would fetch Streamlit's symbols from Google's fonts.
icon = Image.new("RGB", (32, 32), "white")
ImageDraw.Draw(icon).regular_polygon((16, 16, 14), 6, fill=COLOURS[0])
st.set_page_config(page_title="celeba-fl", page_icon=icon, layout="wide")
st.html(STYLE)
pages = {
    "all": st.Page(all_runs.show_page, title="Runs", icon=":material/list:"),
    "one": st.Page(one_run.show_page, title="A run", icon=":material/monitoring:", url_path="run"),
    "devices": st.Page(
        devices.show_page, title="Devices", icon=":material/devices:", url_path="devices"
    ),
    "model": st.Page(
        try_model.show_page, title="Try the model", icon=":material/image_search:", url_path="model"
    ),
}
st.session_state.pages = pages
chosen = st.navigation(list(pages.values()), position="top")
if warning := exposure(st.get_option("server.address") or EVERY_ADDRESS):
    st.warning(warning, icon=":material/public:")
chosen.run()
