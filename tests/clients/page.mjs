// The script of the page: uploads the selected files to ?service=… of another origin.
import Uppy from "@uppy/core";
import Tus from "@uppy/tus";

const service = new URLSearchParams(location.search).get("service");
const uppy = new Uppy({ autoProceed: true }).use(Tus, { endpoint: `${service}/uploads` });

uppy.on("error", (error) => console.error(String(error)));
uppy.on("complete", ({ failed }) => {
  document.title = failed.length ? "failed" : "done";
});
document.querySelector("input").onchange = ({ target: { files } }) => {
  uppy.addFiles([...files].map((file) => ({ name: file.name, type: file.type, data: file })));
};
