import { defineConfig } from "vite";

// Into the Python package: who installs that has no Node. Names without hashes keep the diff of a build readable.
export default defineConfig({
  base: "./", // in a notebook the page lies below a path of its own
  build: {
    outDir: "../src/cytolite/viewer/static",
    emptyOutDir: true,
    modulePreload: false,
    assetsInlineLimit: 0,
    rollupOptions: {
      output: { entryFileNames: "viewer.js", assetFileNames: "viewer[extname]" },
    },
  },
});
